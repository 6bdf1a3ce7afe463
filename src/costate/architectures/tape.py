"""Derivatives of what a layer evaluates, without a graph of the layers before it.

    f     the function of a shear a ← a + c f(b; θ)
    θ     rows of the stacks that a layer learns from: its weights, its bias, scale and shift of its norms
    v     a vector in the space of f's values

One evaluation of f gives its value and (∂f/∂b)ᵀ v, (∂f/∂θ)ᵀ v. Where f is a chain of the layer's affine maps,
activations and norms, they are written by hand: affine map, σ from its value, and norm. Autograd, asked twice a layer,
takes nearly twice as long for it; it has the rest: whatever else f is made of, and casts.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from costate.architectures.fields import Field, Layer
from costate.architectures.norm import Norm

Function = Callable[[Tensor], Tensor]
Pull = Callable[[Tensor], Tensor]
"""v to (∂f/∂b)ᵀ v; adds (∂f/∂θ)ᵀ v to the `.grad` of what f has learnt from, where there is one."""

SLOPES: dict[Any, Callable[[Tensor, Tensor], Tensor]] = {
    torch.tanh: torch.ops.aten.tanh_backward,
    torch.relu: lambda d, a: torch.ops.aten.threshold_backward(d, a, 0),
}
"""σ′ d, from d and a = σ(...)."""


class Tape:
    """Evaluates functions of layers, one after the other, and says how to pull a vector back through each.

    Args:
        field: whose layers they are.
        by_hand: whether to look for chains, of which the derivatives are written by hand.
    """

    def __init__(self, field: Field, by_hand: bool):
        self.field, self.by_hand = field, by_hand
        self.pulls: list[Pull] = []
        self.end: Tensor | None = None
        """Where the chain of what was evaluated ends so far; None if it is broken."""
        self.version = 0

    def taped(self, layer: Layer) -> Layer:
        """The layer, of which every evaluation is noted."""
        if not self.by_hand:
            return layer
        norms = tuple(
            partial(self._norm, N) if isinstance(module, Norm) else N
            for N, module in zip(layer.norms, self.field.norms, strict=True)
        )
        return layer._replace(affine=partial(self._affine, layer), activation=self._activation, norms=norms)

    def evaluate(self, f: Function, b: Tensor) -> tuple[Tensor, Pull]:
        """f(b), which holds no graph, and how to pull back through it."""
        if self.by_hand:
            self.pulls, self.end, self.version = [], b, b._version
            value = f(b)
            if self._ends_in(value):
                return value, self._pull
            # What f does besides is nowhere noted: from here on autograd looks at all of it.
            self.by_hand = False
        return differentiated(f, b)

    def _pull(self, v: Tensor) -> Tensor:
        while self.pulls:
            v = self.pulls.pop()(v)
        return v

    def _ends_in(self, value: Tensor) -> bool:
        return value is self.end and value._version == self.version

    def _note(self, source: Tensor, value: Tensor, pull: Pull | None) -> Tensor:
        """A link of the chain from source to value; the chain is broken if it does not end in the source."""
        self.end = value if pull is not None and self._ends_in(source) else None
        self.version = value._version
        if pull is not None:
            self.pulls.append(pull)
        return value

    def _affine(self, layer: Layer, Y: Tensor, K: Tensor, b: Tensor | None) -> Tensor:
        # ⟨Y Kᵀ, d⟩ = ⟨d K, Y⟩: with the adjoint, Y and d change places.
        transposed = K is layer.Kt
        back = layer.K if transposed else layer.Kt

        def pull(d: Tensor) -> Tensor:
            if layer.K.grad is not None:
                layer.K.grad += self.field.outer(d, Y) if transposed else self.field.outer(Y, d)
            if b is not None and b.grad is not None:
                b.grad += d.sum([0, *range(2, d.ndim)])
            return self.field.affine(d, back, None)

        known = (transposed or K is layer.K) and (b is None or b is layer.b)
        return self._note(Y, layer.affine(Y, K, b), pull if known else None)

    def _activation(self, Y: Tensor) -> Tensor:
        slope, a = SLOPES.get(self.field.activation), self.field.activation(Y)
        return self._note(Y, a, None if slope is None else lambda d: slope(d, a))

    def _norm(self, N: Function, Y: Tensor) -> Tensor:
        return self._note(Y, *differentiated(N, Y))


def differentiated(f: Function, b: Tensor) -> tuple[Tensor, Pull]:
    """f(b) and how to pull back through it, by autograd; what f has learnt from ends a graph."""
    with torch.enable_grad():
        source = b.detach().requires_grad_()
        value = f(source)

    def pull(v: Tensor) -> Tensor:
        if value.requires_grad:
            # A layer may share what is made of its weights between its functions.
            torch.autograd.backward(value, v.to(value.dtype), retain_graph=True)
        return torch.zeros_like(b) if source.grad is None else source.grad

    return value.detach(), pull
