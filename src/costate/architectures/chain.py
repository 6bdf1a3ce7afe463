"""A chain: modules one after the other, each of them a layer, whatever they are; a user's own, in plain PyTorch.

A layer with a method `inverse` that undoes its `forward`, and keeps the state's shape, can be run backwards. Behind the
last layer that cannot, a chain rebuilds its states from its end; what is in front of that is run once more from the
input (Gomez et al., 2017, 1707.04585).
"""

import copy
import itertools
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.integrators import one_way
from costate.architectures.reversal import Found, Run, rebuilt
from costate.config import lookup
from costate.core.block import Block, Coarsening, Network, State, evaluating
from costate.core.types import Shape

UNTIMED = "layers that are modules of their own have no time step, and cannot be prolonged"


@final
class Coupling(nn.Module):
    """(a, b) ← (b, a + F(b)), a layer that can be undone whatever is inside of it: (a, b) ← (b − F(a), a).

    a and b are halves of the state's axis 1. Two of these make a block of Gomez et al. (2017), The reversible residual
    network, 1707.04585; one is a layer of Rivaud et al. (2025), PETRA, 2406.02052.

    Args:
        residual: F, from half of the channels to as many.
    """

    def __init__(self, residual: nn.Module):
        super().__init__()
        self.residual = residual

    def forward(self, x: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels ..."]:
        a, b = x.chunk(2, dim=1)
        return torch.cat([b, a + self.residual(_whole(b, x))], dim=1)

    def inverse(self, x: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels ..."]:
        a, b = x.chunk(2, dim=1)
        return torch.cat([b - self.residual(_whole(a, x)), a], dim=1)


def _whole(half: State, x: State) -> State:
    """Half of x, in one piece of memory, laid there as x is."""
    last = x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return half.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@final
class Chain(Block):
    """Modules one after the other; a slice keeps their names.

    Args:
        layers: in the order of the forward pass.
        reversible: whether the network can run backwards wherever states are large; None: if any of the layers can.

    Attributes:
        front: the layers up to the last one that cannot be run backwards.
    """

    def __init__(self, layers: nn.Sequential, reversible: bool | None = None):
        super().__init__()
        self.chain = layers
        self.reversible = any(map(_two_way, layers)) if reversible is None else reversible
        self.front = max((j + 1 for j, layer in enumerate(layers) if not _two_way(layer)), default=0)
        self.opens = self.front > 0

    @property
    def layers(self) -> int:
        return len(self.chain)

    def forward(self, x: State) -> State:
        return self.chain(self._taken(x))

    def _taken(self, x: State) -> State:
        return self.laid(x) if self.channels_last else x

    def open(self, x: State) -> State:
        return x

    def propagate(self, h: State) -> list[State]:
        return list(itertools.accumulate(self.chain, lambda x, layer: layer(x), initial=h))[1:]

    def retrace(self, h: State, x: State | None) -> tuple[State, State]:
        if not self.reversible:
            raise ValueError(one_way())
        tail = list(self.chain)[self.front :]
        if x is None:
            assert not self.opens, "what cannot be run backwards needs its input"
            x = torch.empty_like(h).requires_grad_()
            into, start = (x.detach(),), x
        else:
            with still(self):
                into, start = None, self.chain[: self.front](self._taken(x))
        (end,) = rebuilt(_Modules(tail), (start,), (self._taken(h),), into) if tail else (start,)
        return x, end

    def ending(self) -> list[nn.Parameter]:
        return list(self.chain[-1].parameters())

    def slice(self, start: int, end: int) -> "Chain":
        part: Any = self.chain[start:end]
        return Chain(copy.deepcopy(part), self.reversible)

    def coarser(self, rule: Coarsening) -> int:
        if rule.factor > 1:
            raise ValueError(f"{UNTIMED}, nor made coarser: choose method.factor=1, copies of all layers.")
        return self.layers

    def stacks(self) -> NoReturn:
        raise ValueError(UNTIMED)


@contextmanager
def still(module: nn.Module) -> Iterator[None]:
    """Running statistics are the same afterwards: a batch that is seen once more moves them no second time."""
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(module.buffers(), before, strict=True):
            # By way of `data`, so that graphs which refer to the buffer stay valid.
            buffer.data.copy_(value)


def _two_way(layer: nn.Module) -> bool:
    return callable(getattr(layer, "inverse", None))


@final
class _Modules(Run):
    """Modules with an inverse."""

    def __init__(self, layers: list[Any]):
        self.layers = layers

    def weights(self) -> list[Tensor]:
        return [p for layer in self.layers for p in layer.parameters()]

    def forward(self, state: tuple[Tensor, ...], weights: Sequence[Tensor]) -> NoReturn:
        raise AssertionError("a chain stores its states")

    def back(self, S: list[Tensor], λ: list[Tensor], weights: Sequence[Tensor], g: Found, by: Any) -> None:
        end = len(g)
        for layer in reversed(self.layers):
            own = list(layer.parameters())
            with still(layer), by:
                source = layer.inverse(S[0]).detach().requires_grad_()
                with torch.enable_grad():
                    h = layer(source)
            learnt = [p for p in own if p.requires_grad]
            λ[0], *found = torch.autograd.grad(h, [source, *learnt], λ[0], allow_unused=True)
            each = iter(found)
            g[end - len(own) : end] = [next(each) if p.requires_grad else None for p in own]
            end, S[0] = end - len(own), source.detach()


@final
class Own(Network):
    """The modules that a function returns, one after the other; a stage may begin at any of them.

    Args:
        shape: of a sample; the function is given it, if it has a parameter `shape`.
        outputs: numbers that the last module gives; handed to parameters `outputs` and `classes`.
        module: package.module:function, which returns an nn.Sequential or a list of modules.
        settings: other arguments of the function.

    Raises:
        ValueError: there is no such function, it returns something else, or its modules do not go with the data: each
            takes one tensor (batch, ...) and gives one, the last one (batch, outputs).
    """

    def __init__(self, shape: Shape, outputs: int, *, module: str | None, settings: dict[str, Any] | None):
        given = {"shape": shape, "outputs": outputs, "classes": outputs}
        layers = _sequential(f"arch.module={module}", lookup.call("arch", module, settings or {}, given))
        with evaluating(layers):
            _examine(f"arch.module={module}", layers, shape, outputs)
        super().__init__(Chain(layers), "have arch.module return more modules")


def _sequential(told: str, found: Any) -> nn.Sequential:
    """The modules as a plain nn.Sequential, under the names that they have."""
    wanted = "an nn.Sequential or a list of modules"
    if isinstance(found, nn.Sequential) and type(found).forward is not nn.Sequential.forward:
        raise ValueError(f"{told} returns {_named(found)}, whose forward is its own, and not {wanted}.")
    if not isinstance(found, nn.Sequential | nn.ModuleList | list | tuple):
        raise ValueError(f"{told} returns {_named(found)}, and not {wanted}.")
    modules = dict(found._modules) if isinstance(found, nn.Module) else {str(i): m for i, m in enumerate(found)}
    if not modules:
        raise ValueError(f"{told} returns no modules: a network has one layer or more.")
    for name, module in modules.items():
        if not isinstance(module, nn.Module):
            raise ValueError(f"{told} returns a list whose item {name} is {_named(module)}, and not {wanted}.")
    return nn.Sequential(OrderedDict(modules))


@torch.no_grad()
def _examine(told: str, layers: nn.Sequential, shape: Shape, outputs: int) -> None:
    """Sends two samples of zeros through; modules that take their sizes from the first input get them here."""
    for module in layers.modules():
        if getattr(module, "inplace", False) is True:
            # Written on a boundary, it would write on what the stage before has kept.
            module.inplace = False  # type: ignore[assignment]
    h: Any = torch.zeros(2, *shape)
    for name, layer in layers._modules.items():
        assert layer is not None, "modules alone"
        place, before, version = f"{told}: module {name} ({type(layer).__name__})", h, h._version
        try:
            h = layer(before)
        except Exception as error:  # whatever a user's forward comes to
            reason = " ".join(str(error).split())
            raise ValueError(f"{place} does not take a batch {tuple(before.shape)}: {reason}") from error
        if before._version != version:
            raise ValueError(f"{place} writes on what it is given, which is another stage's: have it make a copy.")
        if not isinstance(h, Tensor):
            raise ValueError(f"{place} gives {_named(h)}, and what goes down a boundary is one tensor: return that.")
        if not h.is_floating_point() or h.ndim == 0 or len(h) != 2:
            raise ValueError(
                f"{place} gives {h.dtype} {tuple(h.shape)} for two samples: a row of floats each is wanted."
            )
        if _two_way(layer):
            _undo(place, layer, torch.randn(before.shape, generator=torch.Generator().manual_seed(0)))
    if h.shape[1:] != (outputs,):
        raise ValueError(
            f"{told} gives {math.prod(h.shape[1:])} numbers a sample, as {tuple(h.shape)}, and the data asks for "
            f"{outputs}, as (batch, {outputs})."
        )


def _undo(place: str, layer: Any, x: Tensor) -> None:
    """A wrong inverse gives wrong gradients, and nothing else shows it."""
    missed = float((layer.inverse(layer(x)) - x).norm() / x.norm())
    if not missed < 1e-3:
        raise ValueError(
            f"{place}: its inverse misses what the module was given by {missed:.1%}: have it undo forward."
        )


def _named(thing: Any) -> str:
    kind = type(thing).__name__
    return "None" if thing is None else f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"
