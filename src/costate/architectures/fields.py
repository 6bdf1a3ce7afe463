"""Fields: the right-hand sides of a network's differential equation, the weights of all layers of a block stacked.

    Y   state                (batch, width) or (batch, width, height, breadth); rows are samples
    K   weights              (n, width, width) or (n, width, width, k, k)
    Kᵀ  adjoint of K         ⟨Y K, Z⟩ = ⟨Y, Z Kᵀ⟩
    b   bias                 (n, width)
    σ   activation
    N   batch norm, one for each evaluation of σ in a layer, or the identity
    h   time step

One parameter holds a weight of all n layers: an optimizer sees two tensors, smoothness in time is a difference along
axis 0, a stage a slice of it, prolongation an interpolation. The layers are its `unbind`, whose backward is one stack.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from costate.architectures.norm import Norm


class Layer(NamedTuple):
    """One time step's field; `kick` is the step of the second field, h or, at a half start, h/2.

    Attributes:
        early: the field at the moment of the kick, if it is another one; see `integrators.Reversible`.
    """

    affine: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    activation: Callable[[Tensor], Tensor]
    norms: tuple[Callable[[Tensor], Tensor], ...]
    K: Tensor
    Kt: Tensor
    b: Tensor
    h: float
    kick: float
    early: "Layer | None" = None

    def __call__(self, Y: Tensor) -> Tensor:
        """σ(N(Y K + b))."""
        return self.activation(self.norms[0](self.affine(Y, self.K, self.b)))

    def transposed(self, Y: Tensor) -> Tensor:
        """σ(N′(Y Kᵀ + b))."""
        return self.activation(self.norms[1](self.affine(Y, self.Kt, self.b)))

    def adjoint(self, Y: Tensor) -> Tensor:
        """Y Kᵀ."""
        return self.affine(Y, self.Kt, None)


class Field(nn.Module, ABC):
    """The layers σ(N(Y K + b)), b = 0 at first.

    Args:
        K: initial weights of all layers.
        evaluations: how often a layer evaluates σ.
        activation: name of a function of torch.
        norm: whether there is batch norm in front of σ.
    """

    def __init__(self, K: Float[Tensor, "n width width ..."], evaluations: int, activation: str, norm: bool):
        super().__init__()
        n, width = K.shape[:2]
        self.K = nn.Parameter(K)
        self.b = nn.Parameter(K.new_zeros(n, width))
        self.norms = nn.ModuleList(Norm(n, width) if norm else nn.Identity() for _ in range(evaluations))
        self.activation = getattr(torch, activation)

    @abstractmethod
    def affine(self, Y: Tensor, K: Tensor, b: Tensor | None) -> Tensor:
        """Y K + b of one layer."""

    @abstractmethod
    def adjoint(self, K: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Kᵀ of all layers, or of one."""

    @abstractmethod
    def outer(self, Y: Tensor, d: Tensor) -> Float[Tensor, "width width ..."]:
        """∂⟨Y K, d⟩/∂K of one layer."""

    @abstractmethod
    def identity(self) -> Float[Tensor, "width width ..."]:
        """I, the weight with Y I = Y."""

    def skew(self, gamma: float) -> Float[Tensor, "n width width ..."]:
        """½ (K − Kᵀ − γ I) of all layers."""
        return 0.5 * (self.K - self.adjoint(self.K) - gamma * self.identity())

    def layers(
        self, K: Float[Tensor, "n width width ..."], h: float, kick: float, track: bool = True, early: float = 0.0
    ) -> list[Layer]:
        """All layers, with weights K and time step h; the second field's first step is `kick`.

        Args:
            track: whether the norms' running statistics move in training.
            early: by what share of a step the kicks' weights are those of an earlier time than the layer's middle.
        """
        norms = [norm.unbind(track) if isinstance(norm, Norm) else [norm] * len(K) for norm in self.norms]
        kicks = [kick] + [h] * (len(K) - 1)

        def rows(K: Tensor, b: Tensor) -> list[Layer]:
            columns = zip(zip(*norms), K.unbind(0), self.adjoint(K).unbind(0), b.unbind(0), kicks, strict=True)  # noqa: B905
            return [Layer(self.affine, self.activation, N, Kj, Kt, b, h, kick) for N, Kj, Kt, b, kick in columns]

        layers = rows(K, self.b)
        if early == 0 or len(K) == 1:
            return layers
        kicked = rows(_before(K, early), _before(self.b, early))
        return [layer._replace(early=at) for layer, at in zip(layers, kicked, strict=True)]

    def again(self, h: float, kick: float) -> Callable[[int, Sequence[Tensor]], Layer]:
        """Layer j under its rows of other parameters, in their order, for a batch that it has seen."""
        norms = [norm.again() if isinstance(norm, Norm) else None for norm in self.norms]

        def layer(j: int, rows: Sequence[Tensor]) -> Layer:
            K, b, *rest = rows
            pairs = iter(rest)
            N = tuple(_same if norm is None else norm(j, next(pairs), next(pairs)) for norm in norms)
            return Layer(self.affine, self.activation, N, K, self.adjoint(K), b, h, h if j else kick)

        return layer

    def slice(self, start: int, end: int) -> "Field":
        """A copy of layers start, ..., end − 1: axis 0 of whatever the field holds is the layers."""
        part = copy.deepcopy(self)
        for stack in (*part.parameters(), *part.buffers()):
            stack.data = stack.data[start:end].clone()
        return part


@final
class DenseField(Field):
    """Y K is a matrix product."""

    @staticmethod
    def initial(layers: int, width: int) -> Float[Tensor, "n width width"]:
        """Normal, with variance 1/width: Y K has the size of Y."""
        return constant(torch.randn(width, width) / width**0.5, layers)

    def affine(self, Y: Tensor, K: Tensor, b: Tensor | None) -> Tensor:
        return torch.mm(Y, K) if b is None else torch.addmm(b, Y, K)

    def adjoint(self, K: Tensor) -> Tensor:
        return K.mT

    def outer(self, Y: Tensor, d: Tensor) -> Tensor:
        return torch.mm(Y.t(), d)

    def identity(self) -> Tensor:
        return torch.eye(self.K.shape[1], dtype=self.K.dtype, device=self.K.device)


@final
class ConvField(Field):
    """Y K is a convolution with zero padding, images keep their size.

    The adjoint is the convolution with channels swapped and the filter mirrored: conv_transpose2d with the same weight,
    and faster.
    """

    @staticmethod
    def initial(layers: int, width: int, kernel: int) -> Float[Tensor, "n width width k k"]:
        """Normal, with variance 1/(width kernel²)."""
        return constant(torch.randn(width, width, kernel, kernel) / (width**0.5 * kernel), layers)

    def affine(self, Y: Tensor, K: Tensor, b: Tensor | None) -> Tensor:
        return F.conv2d(Y, K, b, padding=K.shape[-1] // 2)

    def adjoint(self, K: Tensor) -> Tensor:
        return K.transpose(-4, -3).flip(-1, -2)

    def outer(self, Y: Tensor, d: Tensor) -> Tensor:
        return conv2d_weight(Y, self.K.shape[1:], d, padding=self.K.shape[-1] // 2)

    def identity(self) -> Tensor:
        eye = torch.eye(self.K.shape[1], dtype=self.K.dtype, device=self.K.device)
        return F.pad(eye[..., None, None], [self.K.shape[-1] // 2] * 4)


def _same(x: Tensor) -> Tensor:
    return x


def _before(θ: Float[Tensor, "n ..."], share: float) -> Float[Tensor, "n ..."]:
    """θ a share of a layer earlier, on a straight line through the neighbour in front, of the first one behind."""
    step = θ.diff(dim=0)
    return θ - share * torch.cat([step[:1], step])


def constant(K: Float[Tensor, "width width ..."], layers: int) -> Float[Tensor, "n width width ..."]:
    """The same weights in all layers.

    Weights that are a function of time from the start leave the network a limit as h → 0: how it trains does not depend
    on its depth. Independent draws average out, the more layers the nearer to no field at all.
    """
    return K.repeat(layers, *(1,) * K.ndim)
