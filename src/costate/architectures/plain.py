"""Plain networks, without a time step: those of the DNI paper and of dni.pytorch."""

import math
from itertools import pairwise
from typing import Literal, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.chain import Chain
from costate.architectures.images import channels_of
from costate.architectures.network import Network
from costate.architectures.norm import Norm
from costate.config.settings import Count
from costate.core.types import Shape


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
        super().__init__(Chain(nn.Sequential(*hidden, last)), "list more arch.widths")


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
        sizes = [channels_of("cnn", shape), *at_least_one("arch.filters", filters)]
        height, width = (side >> len(filters) for side in shape[1:])
        if height == 0 or width == 0:
            raise ValueError(
                f"arch.filters={list(filters)} halves images {len(filters)} times, and those of the data have "
                f"{shape[1]} × {shape[2]} pixels: list fewer arch.filters"
            )
        hidden = [ConvLayer(a, b, kernel, norm) for a, b in pairwise(sizes)]
        last = nn.Sequential(nn.Flatten(), nn.Linear(sizes[-1] * height * width, outputs))
        super().__init__(Chain(nn.Sequential(*hidden, last)), "list more arch.filters")


def at_least_one(setting: str, sizes: list[int]) -> list[int]:
    """The sizes, if there is none below 1."""
    if any(size < 1 for size in sizes):
        raise ValueError(f"{setting}={list(sizes)} has a number below 1: a layer has at least one")
    return sizes
