"""Small nets that read a state: the heads of local losses, and the features by which these compare samples.

h is (batch, *shape); images are averaged down to at most pool × pool pixels before a dense layer reads them.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from costate.types import Shape

Kind = Literal["linear", "mlp", "conv"]


def build(kind: Kind, shape: Shape, outputs: int, *, layers: int, width: int, pool: int) -> nn.Module:
    """The head of that kind.

    Raises:
        ValueError: see `conv`.
    """
    if kind == "linear":
        return linear(shape, outputs, pool=pool)
    return (mlp if kind == "mlp" else conv)(shape, outputs, layers=layers, width=width, pool=pool)


def linear(shape: Shape, outputs: int, *, pool: int) -> nn.Module:
    """h A + a."""
    start, features = _row(shape, pool)
    return nn.Sequential(*start, nn.Linear(features, outputs))


def mlp(shape: Shape, outputs: int, *, layers: int, width: int, pool: int) -> nn.Module:
    """h through `layers` hidden layers with ReLU (Belilovsky et al., 2020, "MLP-aux")."""
    start, features = _row(shape, pool)
    widths = [features] + [width] * layers
    hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*start, *hidden, nn.Linear(width, outputs))


def conv(shape: Shape, outputs: int, *, layers: int, width: int, pool: int) -> nn.Module:
    """h through `layers` hidden 3 × 3 convolutions with ReLU, and a dense layer (the same, "CNN-aux").

    Raises:
        ValueError: the state at the boundary is no image.
    """
    if len(shape) != 3:
        raise ValueError(
            f"method.head=conv needs images at the boundaries, here they hold {shape[0]} features: "
            "use method.head=linear or mlp"
        )
    widths = [shape[0]] + [width] * layers
    hidden = [part for a, b in pairwise(widths) for part in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())]
    end, features = _row((width, *shape[1:]), pool)
    return nn.Sequential(*hidden, *end, nn.Linear(features, outputs))


def features(shape: Shape) -> nn.Module:
    """Φ: a linear map of a vector; of images a 3 × 3 convolution and how much each channel varies over the pixels
    (Nøkland & Eidnes, 2019), where there are several.
    """
    if len(shape) == 3 and shape[1] * shape[2] > 1:
        return nn.Sequential(nn.Conv2d(shape[0], shape[0], 3, padding=1, bias=False), Spread())
    size = torch.Size(shape).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(size, size, bias=False))


class Spread(nn.Module):
    """Standard deviation over the pixels of each channel."""

    def forward(self, h: Tensor) -> Tensor:
        return h.flatten(2).std(dim=2)


def _row(shape: Shape, pool: int) -> tuple[list[nn.Module], int]:
    """What makes a row of a state, and its length."""
    if len(shape) != 3:
        return [nn.Flatten()], torch.Size(shape).numel()
    sides = tuple(min(pool, side) for side in shape[1:])
    return [nn.AdaptiveAvgPool2d(sides), nn.Flatten()], shape[0] * sides[0] * sides[1]
