"""Networks as users would bring them, plain PyTorch, and what is none."""

import math
from collections import OrderedDict

from torch import nn

from costate.architectures.chain import Coupling


def layers(shape: tuple[int, ...], classes: int, width: int = 6) -> nn.Sequential:
    """Some of its modules have no parameters, one keeps running statistics, two are one and the same object."""
    σ = nn.ReLU()
    front = nn.Flatten(), nn.Linear(math.prod(shape), width), nn.BatchNorm1d(width), σ
    return nn.Sequential(*front, nn.Linear(width, width), σ, nn.Linear(width, classes))


def line(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """A convolution over one axis."""
    front = nn.Flatten(), nn.Unflatten(1, (1, math.prod(shape))), nn.Conv1d(1, 6, 1)
    return nn.Sequential(*front, nn.Flatten(), nn.Linear(6 * math.prod(shape), classes))


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Rows(nn.Module):
    def forward(self, x):
        return x.argmax(1)


class Skip(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Writes(nn.Module):
    def forward(self, x):
        return x.add_(1)


MADE = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
tied = nn.Linear(6, 6)


def named(outputs):
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), lazy=nn.LazyLinear(outputs)))


def listed():
    return [nn.Flatten(), nn.Linear(6, 4)]


def returning(*found):
    return lambda: found[0] if len(found) == 1 else list(found)


one = returning(nn.Linear(3, 4))
text = returning(nn.Flatten(), "relu")
none = returning()
nothing = returning(None)
skip = returning(Skip(nn.Flatten()))
pair = returning(nn.Flatten(), Pair(), nn.Linear(6, 4))
writes = returning(nn.Flatten(), nn.Linear(6, 4), Writes())
rows = returning(nn.Flatten(), Rows())
misfit = returning(nn.Flatten(), nn.Linear(5, 4))
many = returning(nn.Flatten(), nn.Linear(6, 5))
twice = returning(nn.Flatten(), tied, nn.Tanh(), tied, nn.Linear(6, 4))


def asks(width, depth=2):
    return listed()


def faulty():
    raise RuntimeError("a fault of mine")


def inplace():
    return [nn.Flatten(), nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 4)]


def couplings(shape, classes):
    """Layers that can be undone, between some that cannot; each keeps running statistics."""

    def coupling(half):
        return Coupling(nn.Sequential(nn.Linear(half, half), nn.BatchNorm1d(half), nn.Tanh()))

    start = nn.Linear(math.prod(shape), 8), coupling(4), coupling(4), coupling(4)
    return nn.Sequential(*start, nn.Linear(8, 12), coupling(6), coupling(6), coupling(6), nn.Linear(12, classes))


def bare(shape, classes):
    """Two of its modules, which become stages of their own, have no weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 8), nn.Tanh(), nn.Linear(8, classes))


def half_frozen(shape, classes):
    """A coupling that is not trained, between what is."""
    still = Coupling(nn.Linear(4, 4)).requires_grad_(False)
    middle = Coupling(nn.Linear(4, 4)), still, Coupling(nn.Linear(4, 4))
    return nn.Sequential(nn.Linear(math.prod(shape), 8), *middle, nn.Linear(8, classes))


def random_couplings(shape, classes, p=0.5):
    middle = [Coupling(nn.Sequential(nn.Linear(4, 4), nn.Dropout(p))) for _ in range(2)]
    return nn.Sequential(nn.Linear(math.prod(shape), 8), *middle, nn.Linear(8, classes))


def random(shape, classes):
    return nn.Sequential(nn.Linear(*shape, 8), nn.Dropout(0.5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, classes))


def plain(shape, classes):
    return nn.Sequential(nn.Linear(*shape, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, classes))


class Doubled(nn.Module):
    """Its inverse forgets to halve."""

    def forward(self, x):
        return 2 * x

    def inverse(self, h):
        return h


def astray(shape, outputs):
    return [nn.Flatten(), Doubled(), nn.Linear(math.prod(shape), outputs)]
