"""Plain networks, without a time step: those of the DNI paper and of dni.pytorch."""

import copy
import itertools
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NoReturn, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.block import Block
from costate.architectures.network import Network
from costate.architectures.norm import Norm
from costate.settings import Count
from costate.types import Shape

UNTIMED = "arch=mlp and arch=cnn have layers without a time step, which cannot be prolonged"
ONE_WAY = "arch=mlp and arch=cnn have layers that cannot be run backwards: choose arch=verlet or leapfrog"


@final
class Chain(Block):
    """Modules one after the other, each of them a layer."""

    def __init__(self, modules: list[nn.Module]):
        super().__init__()
        self.chain = nn.Sequential(*modules)

    @property
    def layers(self) -> int:
        return len(self.chain)

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        return self.chain(x)

    def open(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        return x

    def propagate(self, h: Float[Tensor, "batch ..."]) -> list[Float[Tensor, "batch ..."]]:
        return list(itertools.accumulate(self.chain, lambda x, layer: layer(x), initial=h))[1:]

    @property
    def reversible(self) -> bool:
        return False

    def inverse(self, h: Tensor) -> NoReturn:
        raise ValueError(ONE_WAY)

    def retrace(self, h: Tensor, x: Tensor | None) -> NoReturn:
        raise ValueError(ONE_WAY)

    def penalty(self) -> None:
        return None

    def ending(self) -> list[nn.Parameter]:
        return list(self.chain[-1].parameters())

    def slice(self, start: int, end: int) -> "Chain":
        return Chain(copy.deepcopy([self.chain[j] for j in range(start, end)]))

    def stacks(self) -> NoReturn:
        raise ValueError(UNTIMED)

    def refine(self, stacks: Sequence[Tensor]) -> NoReturn:
        raise ValueError(UNTIMED)


@final
class DenseLayer(nn.Module):
    """Y ← σ(N(Y K + b)), images are flattened; or, where boundaries lie before σ, Y ← N(σ(Y) K + b).

    Args:
        front: σ of the layer before, or the identity.
        behind: its own σ, or the identity.
    """

    def __init__(self, features: int, width: int, norm: bool, front: nn.Module, behind: nn.Module):
        super().__init__()
        self.linear = nn.Linear(features, width)
        self.norm = Norm(1, width) if norm else nn.Identity()
        self.front, self.behind = front, behind

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch width"]:
        return self.behind(self.norm(self.linear(self.front(x).flatten(1))))


@final
class ConvLayer(nn.Module):
    """Convolution, batch norm, ReLU, and the maximum over 2 × 2 pixels."""

    def __init__(self, channels: int, filters: int, kernel: int, norm: bool):
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, kernel, padding="same")
        self.norm = Norm(1, filters) if norm else nn.Identity()

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch filters h w"]:
        return F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)


@final
class Mlp(Network):
    """Dense layers, and a linear one at the end (Jaderberg et al., 2017, section 3.1).

    Args:
        shape: of a sample; images are flattened.
        outputs: numbers that the last layer gives.
        widths: of the hidden layers.
        activation: σ.
        norm: whether there is batch norm in front of each σ.
        boundary: whether a stage ends after a σ or before it. Behind the latter a synthesizer that knows no labels has
            more to tell: in front of a linear layer at its optimum no linear function of h correlates with g.

    Raises:
        ValueError: if a width is below 1.
    """

    def __init__(
        self,
        shape: Shape,
        outputs: int,
        *,
        widths: list[int],
        activation: Literal["relu", "tanh", "sigmoid"],
        norm: bool,
        boundary: Literal["after", "before"],
    ):
        sizes = [math.prod(shape), *at_least_one("arch.widths", widths)]
        σ, none = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[activation](), nn.Identity()
        behind = σ if boundary == "after" else none
        fronts = [none, *[none if boundary == "after" else σ] * len(widths)]
        hidden = [DenseLayer(a, b, norm, front, behind) for (a, b), front in zip(pairwise(sizes), fronts, strict=False)]
        last = nn.Sequential(nn.Sequential(fronts[-1], nn.Flatten()), nn.Linear(sizes[-1], outputs))
        super().__init__(Chain([*hidden, last]), "list more arch.widths")


@final
class Cnn(Network):
    """Convolutional layers that halve the image, and a linear one at the end (Jaderberg et al., 2017, section 3.1).

    Args:
        shape: of a sample, (channels, height, width).
        outputs: numbers that the last layer gives.
        filters: of the convolutional layers.
        kernel: size of the filters.
        norm: whether there is batch norm in front of each ReLU.

    Raises:
        ValueError: if samples are no images or too small to be halved so often, or if a number of filters is below 1.
    """

    def __init__(self, shape: Shape, outputs: int, *, filters: list[int], kernel: Count, norm: bool):
        if len(shape) != 3:
            raise ValueError(
                f"arch=cnn needs images (channels, height, width); data gives {math.prod(shape)} features: use arch=mlp"
            )
        sizes = [shape[0], *at_least_one("arch.filters", filters)]
        height, width = (side >> len(filters) for side in shape[1:])
        if height == 0 or width == 0:
            raise ValueError(
                f"arch.filters={list(filters)} halves images {len(filters)} times, and those of the data have "
                f"{shape[1]} × {shape[2]} pixels: list fewer arch.filters"
            )
        hidden = [ConvLayer(a, b, kernel, norm) for a, b in pairwise(sizes)]
        last = nn.Sequential(nn.Flatten(), nn.Linear(sizes[-1] * height * width, outputs))
        super().__init__(Chain([*hidden, last]), "list more arch.filters")


def at_least_one(setting: str, sizes: list[int]) -> list[int]:
    """The sizes, if there is none below 1."""
    if any(size < 1 for size in sizes):
        raise ValueError(f"{setting}={list(sizes)} has a number below 1: a layer has at least one")
    return sizes
