"""Forms of a state, a vector or an image, and what goes with it: the opening, the field and the head."""

import math
from abc import ABC, abstractmethod
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from costate.architectures.fields import AffineField, Field
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
class DenseField(AffineField):
    """Y K is a matrix product."""

    def affine(self, Y: Tensor, K: Tensor, b: Tensor | None) -> Tensor:
        return torch.mm(Y, K) if b is None else torch.addmm(b, Y, K)

    def adjoint(self, K: Tensor) -> Tensor:
        return K.mT

    def outer(self, Y: Tensor, d: Tensor) -> Tensor:
        return torch.mm(Y.t(), d)

    def identity(self) -> Tensor:
        return torch.eye(self.K.shape[1], dtype=self.K.dtype, device=self.K.device)


@final
class ConvField(AffineField):
    """Y K is a convolution with zero padding, images keep their size.

    The adjoint is the convolution with channels swapped and the filter mirrored: conv_transpose2d with the same weight,
    and faster.
    """

    def affine(self, Y: Tensor, K: Tensor, b: Tensor | None) -> Tensor:
        return F.conv2d(Y, K, b, padding=K.shape[-1] // 2)

    def adjoint(self, K: Tensor) -> Tensor:
        return K.transpose(-4, -3).flip(-1, -2)

    def outer(self, Y: Tensor, d: Tensor) -> Tensor:
        return conv2d_weight(Y, self.K.shape[1:], d, padding=self.K.shape[-1] // 2)

    def identity(self) -> Tensor:
        eye = torch.eye(self.K.shape[1], dtype=self.K.dtype, device=self.K.device)
        return F.pad(eye[..., None, None], [self.K.shape[-1] // 2] * 4)


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
        return nn.Sequential(nn.Flatten(), nn.ConstantPad1d((0, width - features), 0.0))

    def field(self, layers: int, width: int, evaluations: int, activation: str, norm: bool) -> Field:
        return DenseField(constant(torch.randn(width, width) / width**0.5, layers), evaluations, activation, norm)

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
        self.kernel, self.stride, self.pool = kernel, stride, pool

    def opening(self, shape: Shape, width: int) -> nn.Module:
        if len(shape) != 3:
            raise ValueError(
                f"arch/form=conv needs images (channels, height, width); data gives {math.prod(shape)} features: "
                "use arch/form=dense"
            )
        return nn.Conv2d(shape[0], width, 2 * self.stride + 1, self.stride, padding=self.stride)

    def field(self, layers: int, width: int, evaluations: int, activation: str, norm: bool) -> Field:
        K = torch.randn(width, width, self.kernel, self.kernel) / (width**0.5 * self.kernel)
        return ConvField(constant(K, layers), evaluations, activation, norm)

    def head(self, width: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(self.pool), nn.Flatten(), nn.Linear(width * self.pool**2, outputs))


def constant(K: Float[Tensor, "width more ..."], layers: int) -> Float[Tensor, "n width more ..."]:
    """The same weights in all layers, normal at first, so large that Y K has the size of Y.

    Weights that are a function of time from the start leave the network a limit as h → 0: how it trains does not depend
    on its depth. Independent draws average out, the more layers the nearer to no field at all.
    """
    return K.repeat(layers, *(1,) * K.ndim)
