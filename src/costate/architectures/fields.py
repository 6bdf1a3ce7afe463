"""Fields: the right-hand sides of a network's differential equation, the weights of all layers of a block stacked.

    Y   state                (batch, width) or (batch, width, height, breadth); rows are samples
    K   weights              (n, width, width) or (n, width, width, k, k)
    Kᵀ  adjoint of K         ⟨Y K, Z⟩ = ⟨Y, Z Kᵀ⟩
    b   bias                 (n, width)
    σ   activation
    N   batch norm, one for each evaluation of σ in a layer, or none
    h   time step
    d   gradient of the loss at a function's value

One parameter holds a weight of all n layers: an optimizer sees two tensors, smoothness in time is a difference along
axis 0, a stage a slice of it, prolongation an interpolation. The layers are its `unbind`, whose backward is one stack.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.norm import Norm

Function = Callable[[Tensor], Tensor]
Pull = Callable[[Tensor], Tensor]
"""d to (∂f/∂Y)ᵀ d; adds (∂f/∂θ)ᵀ d to the `.grad` of the weights θ of f, where there is one."""


class Layer(NamedTuple):
    """What steps are made of at one layer; a field that is no affine map says itself what its three functions are.

    Attributes:
        f: σ(N(Y K + b)), the field.
        dual: σ(N′(Y Kᵀ + b)), the other function of a pair.
        force: σ(N(Y K + b)) Kᵀ, without N the gradient of a potential.
        kick: step of the second field, h or, at a half start, h/2.
        early: the functions at the moment of the kick, if they are others; see `integrators.Reversible`.
    """

    f: Function
    dual: Function
    force: Function
    h: float
    kick: float
    early: "Layer | None" = None


class Field(nn.Module, ABC):
    """The functions of n layers.

    Attributes:
        K: a stack of weights, the first parameter; an integrator may use something that it makes of it instead.
        timed: number of stacks, from the first one, that are functions of time; of others a layer has its own.
    """

    K: nn.Parameter
    timed: int

    def stacks(self) -> list[Tensor]:
        """All that the layers learn from, a row a layer."""
        return list(self.parameters())

    def skew(self, gamma: float) -> Float[Tensor, "n width width ..."]:
        """½ (K − Kᵀ − γ I) of all layers.

        Raises:
            ValueError: the field is no affine map.
        """
        raise ValueError(
            "arch=antisymmetric makes weights antisymmetric, which gives attention no stable Jacobian: choose another "
            "arch, or arch/form=dense or conv."
        )

    def expanded(self, θ: Sequence[Tensor]) -> Sequence[Tensor]:
        """The stacks, or a layer's rows of them, with what else is made of them."""
        return θ

    def statistics(self, track: bool) -> Any:
        """What layers are asked for besides their rows, as it is now; running statistics move in training, or not."""

    @abstractmethod
    def layer(self, j: int, θ: Sequence[Tensor], statistics: Any, h: float, kick: float) -> Layer:
        """Layer j under its rows of the expanded stacks."""

    @final
    def layers(
        self, K: Float[Tensor, "n width more ..."], h: float, kick: float, track: bool = True, early: float = 0.0
    ) -> list[Layer]:
        """All layers, with weights K and time step h; the second field's first step is `kick`.

        Args:
            track: whether the norms' running statistics move in training.
            early: by what share of a step the kicks' weights are those of an earlier time than the layer's middle.
        """
        stacks, statistics = [K, *self.stacks()[1:]], self.statistics(track)

        def made(stacks: Sequence[Tensor]) -> list[Layer]:
            rows = zip(*(stack.unbind(0) for stack in self.expanded(stacks)), strict=True)
            return [self.layer(j, θ, statistics, h, h if j else kick) for j, θ in enumerate(rows)]

        layers = made(stacks)
        if early == 0 or len(K) == 1:
            return layers
        # On a straight line through the neighbour in front, of the first layer through the one behind.
        steps = [torch.cat([θ[1:2] - θ[:1], θ.diff(dim=0)]) for θ in stacks[: self.timed]]
        earlier = [θ - early * step for θ, step in zip(stacks, steps, strict=False)]
        kicks = made([*earlier, *stacks[self.timed :]])
        return [layer._replace(early=at) for layer, at in zip(layers, kicks, strict=True)]

    def slice(self, start: int, end: int) -> "Field":
        """A copy of layers start, ..., end − 1: axis 0 of whatever the field holds is the layers."""
        part = copy.deepcopy(self)
        for stack in (*part.parameters(), *part.buffers()):
            stack.data = stack.data[start:end].clone()
        return part


class AffineField(Field):
    """The layers σ(N(Y K + b)), b = 0 at first.

    Args:
        K: initial weights of all layers.
        evaluations: how often a layer evaluates σ.
        activation: name of a function of torch.
        norm: whether there is batch norm in front of σ.
    """

    timed = 2

    def __init__(self, K: Float[Tensor, "n width width ..."], evaluations: int, activation: str, norm: bool):
        super().__init__()
        n, width = K.shape[:2]
        self.K = nn.Parameter(K)
        self.b = nn.Parameter(K.new_zeros(n, width))
        self.norms = nn.ModuleList(Norm(n, width) if norm else nn.Identity() for _ in range(evaluations))
        self.activation = Activation(activation)

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

    @final
    def skew(self, gamma: float) -> Float[Tensor, "n width width ..."]:
        return 0.5 * (self.K - self.adjoint(self.K) - gamma * self.identity())

    @final
    def expanded(self, θ: Sequence[Tensor]) -> Sequence[Tensor]:
        return self.adjoint(θ[0]), *θ

    @final
    def statistics(self, track: bool) -> list[Any]:
        return [norm.rule(track) for norm in self.norms if isinstance(norm, Norm)]

    @final
    def layer(self, j: int, θ: Sequence[Tensor], statistics: Any, h: float, kick: float) -> Layer:
        Kt, K, b, *rest = θ
        norms: list[Any] = [(rule(j, *rest[2 * i : 2 * i + 2]),) for i, rule in enumerate(statistics)] or [()]
        f = Affine(self, K, Kt, b), *norms[0], self.activation
        dual = Affine(self, K, Kt, b, turned=True), *norms[-1], self.activation
        return Layer(Composed(*f), Composed(*dual), Composed(*f, Affine(self, K, Kt, None, turned=True)), h, kick)


class Known(ABC):
    """A function whose derivative is written by hand: autograd, asked twice a layer, takes nearly twice as long."""

    @abstractmethod
    def __call__(self, Y: Tensor) -> Tensor:
        """Its value."""

    @abstractmethod
    def pulled(self, Y: Tensor) -> tuple[Tensor, Pull]:
        """Its value, without a graph, and how to pull back through it."""


@final
class Affine(Known):
    """Y K + b of one layer, or, turned, Y Kᵀ + b."""

    def __init__(self, field: AffineField, K: Tensor, Kt: Tensor, b: Tensor | None, turned: bool = False):
        self.field, self.learnt, self.b, self.turned = field, K, b, turned
        self.K, self.Kt = (Kt, K) if turned else (K, Kt)

    def __call__(self, Y: Tensor) -> Tensor:
        return self.field.affine(Y, self.K, self.b)

    def pulled(self, Y: Tensor) -> tuple[Tensor, Pull]:
        def pull(d: Tensor) -> Tensor:
            if self.learnt.grad is not None:
                # ⟨Y Kᵀ, d⟩ = ⟨d K, Y⟩: with the adjoint, Y and d change places.
                self.learnt.grad += self.field.outer(d, Y) if self.turned else self.field.outer(Y, d)
            if self.b is not None and self.b.grad is not None:
                self.b.grad += d.sum([0, *range(2, d.ndim)])
            return self.field.affine(d, self.Kt, None)

        return self(Y), pull


@final
class Activation(Known):
    """σ, whose slope is a function of its value."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, Y: Tensor) -> Tensor:
        return torch.tanh(Y) if self.name == "tanh" else torch.relu(Y)

    def pulled(self, Y: Tensor) -> tuple[Tensor, Pull]:
        a = self(Y)
        if self.name == "tanh":
            return a, lambda d: torch.ops.aten.tanh_backward(d, a)
        return a, lambda d: torch.ops.aten.threshold_backward(d, a, 0)


@final
class Composed(Known):
    """Functions, one behind the other; of none, the identity."""

    def __init__(self, *functions: Function):
        self.functions = functions

    def __call__(self, Y: Tensor) -> Tensor:
        for f in self.functions:
            Y = f(Y)
        return Y

    def pulled(self, Y: Tensor) -> tuple[Tensor, Pull]:
        pulls = []
        for f in self.functions:
            Y, pull = pulled(f, Y)
            pulls.append(pull)

        def back(d: Tensor) -> Tensor:
            while pulls:
                d = pulls.pop()(d)
            return d

        return Y, back


def pulled(f: Function, Y: Tensor, by_hand: bool = True) -> tuple[Tensor, Pull]:
    """f(Y), without a graph, and how to pull back through it: as f knows it, or by autograd."""
    if by_hand and isinstance(f, Known):
        return f.pulled(Y)
    with torch.enable_grad():
        source = Y.detach().requires_grad_()
        value = f(source)

    def pull(d: Tensor) -> Tensor:
        if value.requires_grad:
            # Frees what f has saved; adjoints, which a layer's functions share, save nothing.
            torch.autograd.backward(value, d.to(value.dtype))
        return torch.zeros_like(Y) if source.grad is None else source.grad

    return value.detach(), pull
