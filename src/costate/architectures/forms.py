"""Forms of a state: a vector or an image, and what goes with it, the opening, the field and the head."""

import math
from abc import ABC, abstractmethod
from typing import Literal, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.fields import ConvField, DenseField, Field
from costate.config.settings import Count
from costate.core.types import Shape


class Form(ABC):
    """What a stable network is made of; `width` is the number of features or channels of one field."""

    @abstractmethod
    def opening(self, shape: Shape, width: int) -> nn.Module:
        """Samples of that shape to the first field Y.

        Raises:
            ValueError: if samples of that shape cannot become such a state.
        """

    @abstractmethod
    def field(self, layers: int, width: int, evaluations: int, activation: str, norm: bool) -> Field:
        """The layers."""

    @abstractmethod
    def head(self, width: int, outputs: int) -> nn.Module:
        """The first field Y to the network's output (batch, outputs)."""


@final
class Dense(Form):
    """States are vectors (batch, width), images are flattened.

    Args:
        opening: a linear layer, or zeros appended to the sample.
    """

    def __init__(self, *, opening: Literal["linear", "pad"]):
        self.pad = opening == "pad"

    def opening(self, shape: Shape, width: int) -> nn.Module:
        features = math.prod(shape)
        if not self.pad:
            return nn.Sequential(nn.Flatten(), nn.Linear(features, width))
        if width < features:
            raise ValueError(
                f"arch.width={width} is below the {features} features of the data, which arch.form.opening=pad cannot "
                f"pad: raise arch.width to {features} or use arch.form.opening=linear"
            )
        return Pad(width)

    def field(self, layers: int, width: int, evaluations: int, activation: str, norm: bool) -> Field:
        return DenseField(DenseField.initial(layers, width), evaluations, activation, norm)

    def head(self, width: int, outputs: int) -> nn.Module:
        return nn.Linear(width, outputs)


@final
class Conv(Form):
    """States are images (batch, width, height / stride, breadth / stride).

    The opening is a convolution with filters of 2 stride + 1, the head averages Y to pool × pool pixels.

    Args:
        kernel: odd size of the field's filters.
        stride: of the opening.
        pool: pixels along either axis that the head reads.

    Raises:
        ValueError: if the kernel is even.
    """

    def __init__(self, *, kernel: Count, stride: Count, pool: Count):
        if kernel % 2 == 0:
            raise ValueError(f"arch.form.kernel={kernel} is even: only odd filters keep an image's size")
        self.kernel = kernel
        self.stride = stride
        self.pool = pool

    def opening(self, shape: Shape, width: int) -> nn.Module:
        if len(shape) != 3:
            raise ValueError(
                f"arch/form=conv needs images (channels, height, width); data gives {math.prod(shape)} features: "
                "use arch/form=dense"
            )
        return nn.Conv2d(shape[0], width, 2 * self.stride + 1, self.stride, padding=self.stride)

    def field(self, layers: int, width: int, evaluations: int, activation: str, norm: bool) -> Field:
        return ConvField(ConvField.initial(layers, width, self.kernel), evaluations, activation, norm)

    def head(self, width: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(self.pool), nn.Flatten(), nn.Linear(width * self.pool**2, outputs))


@final
class Pad(nn.Module):
    """Samples, flattened, with zeros appended up to the width."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch width"]:
        x = x.flatten(1)
        return F.pad(x, (0, self.width - x.shape[1]))
