"""The backward pass of reversible layers from the state behind them, when their forward pass is over and forgotten.

    S_j   state behind layer j, two fields a and b
    λ     gradient of the loss at S_j, one for each field
    θ     weights of a layer; K, b and those of its norms

    a step's part      a ← a + c f(b; θ)
    on the way back    a ← a − c f(b; θ);   λ_b ← λ_b + c (∂f/∂b)ᵀ λ_a;   g_θ ← g_θ + c (∂f/∂θ)ᵀ λ_a

One evaluation of f gives the state and, with three derivatives written by hand, the gradients: affine map, σ from its
value, and norm. Autograd, asked twice a layer, takes nearly twice as long for it.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from costate.architectures.fields import Field, Layer
from costate.architectures.integrators import Reversible
from costate.architectures.norm import Norm

if TYPE_CHECKING:
    from costate.architectures.stable import StableBlock

SLOPES: dict[Any, Callable[[Tensor, Tensor], Tensor]] = {
    torch.tanh: torch.ops.aten.tanh_backward,
    torch.relu: lambda d, a: torch.ops.aten.threshold_backward(d, a, 0),
}
"""σ′ d, from d and a = σ(...)."""


class Tape:
    """Evaluates layers and notes how to pull a gradient back through what was evaluated last.

    Attributes:
        found: gradients of the field's parameters, by their names, which add up.
    """

    def __init__(self, field: Field):
        self.field = field
        self.found = {name: torch.zeros_like(p) for name, p in field.named_parameters()}
        self.notes: list[Callable[[Tensor], Tensor]] = []

    def taped(self, j: int, layer: Layer) -> Layer:
        """Layer j, whose evaluations are noted."""
        norms = tuple(
            partial(self._norm, e, N) if isinstance(self.field.norms[e], Norm) else N for e, N in enumerate(layer.norms)
        )
        return layer._replace(affine=partial(self._affine, j, layer), activation=self._activation, norms=norms)

    def pull(self, v: Tensor) -> Tensor:
        """(∂f/∂b)ᵀ v of what was evaluated since the last pull; adds (∂f/∂θ)ᵀ v to what was found."""
        while self.notes:
            v = self.notes.pop()(v)
        return v

    def _affine(self, j: int, layer: Layer, Y: Tensor, K: Tensor, b: Tensor | None) -> Tensor:
        # ⟨Y Kᵀ, d⟩ = ⟨d K, Y⟩: with the adjoint, Y and d change places.
        transposed = K is layer.Kt
        back = layer.K if transposed else layer.Kt

        def pull(d: Tensor) -> Tensor:
            self.found["K"][j] += self.field.outer(d, Y) if transposed else self.field.outer(Y, d)
            if b is not None:
                self.found["b"][j] += d.sum([0, *range(2, d.ndim)])
            return self.field.affine(d, back, None)

        self.notes.append(pull)
        return self.field.affine(Y, K, b)

    def _activation(self, Y: Tensor) -> Tensor:
        a = self.field.activation(Y)
        self.notes.append(lambda d: SLOPES[self.field.activation](d, a))
        return a

    def _norm(self, e: int, N: Callable[[Tensor], Tensor], Y: Tensor) -> Tensor:
        norm: Any = self.field.norms[e]
        with torch.enable_grad():
            Y = Y.detach().requires_grad_()
            normed = N(Y)

        def pull(d: Tensor) -> Tensor:
            back, scale, shift = torch.autograd.grad(normed, (Y, norm.scale, norm.shift), d)
            self.found[f"norms.{e}.scale"] += scale
            self.found[f"norms.{e}.shift"] += shift
            return back

        self.notes.append(pull)
        return normed.detach()


class Retraced(torch.autograd.Function):
    """The end of a block's layers as a function of their start, of which nothing but the end is known."""

    @staticmethod
    def forward(ctx: Any, block: "StableBlock", end: Tensor, into: Tensor | None, start: Tensor, *_: Tensor) -> Tensor:
        ctx.block, ctx.into = block, into
        ctx.save_for_backward(end)
        return end.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        block: StableBlock = ctx.block
        (end,), (g,) = ctx.saved_tensors, gradients
        integrator = block.integrator
        assert isinstance(integrator, Reversible), "asked of blocks that are"
        with torch.enable_grad():
            layers = block.steps(track=False)
        tape = Tape(block.field)
        S, λ = ([field.contiguous() for field in both.chunk(2, dim=1)] for both in (end, g))
        with torch.autocast(end.device.type, enabled=False):
            for j in reversed(range(len(layers))):
                for a, b, c, f in reversed(integrator.shears(tape.taped(j, layers[j]))):
                    S[a] = torch.add(S[a], f(S[b]), alpha=-c)
                    λ[b] = λ[b] + tape.pull(c * λ[a])
        if ctx.into is not None:
            ctx.into.copy_(torch.cat(S, dim=1))
        return None, None, None, torch.cat(λ, dim=1), *tape.found.values()


def retraced(block: "StableBlock", end: Tensor, into: Tensor | None, start: Tensor) -> Tensor:
    """The state behind the layers of a reversible block, with a graph that begins at `start` and stores nothing.

    Args:
        end: that state.
        start: the state in front of the layers, whose value is not looked at.
        into: where the backward pass puts what it has rebuilt of the start.
    """
    return Retraced.apply(block, end, into, start, *block.field.parameters())
