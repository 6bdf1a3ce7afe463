"""Reversible propagation: one state is known, the last, and the backward pass rebuilds the others on its way.

    S_j   state behind layer j, of one field or two, a and b
    λ     gradient of the loss at S_j, one field each
    θ     what a layer learns from, of a stack its row; g_θ gradient there

    back over a layer f      S_{j−1} = f⁻¹(S_j; θ);   λ ← (∂f/∂S)ᵀ λ;   g_θ ← g_θ + (∂f/∂θ)ᵀ λ     at S_{j−1}
    back over a shear        a ← a − c f(b; θ);   λ_b ← λ_b + c (∂f/∂b)ᵀ λ_a;   g_θ ← g_θ + c (∂f/∂θ)ᵀ λ_a
      a ← a + c f(b; θ)

f of a shear is evaluated once on the way back, for the state and for its derivatives: four thirds of the work of
backpropagation that stores (Gomez et al., 2017, 1707.04585; Chang et al., 2018, 1709.03698).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from costate.architectures.fields import Field, pulled
from costate.architectures.integrators import Integrator, Reversible

State = tuple[Tensor, ...]
Found = list[Tensor | None]


class Run(ABC):
    """A run of layers that can be undone."""

    @abstractmethod
    def weights(self) -> list[Tensor]:
        """All that the layers learn from, with its graph."""

    @abstractmethod
    def forward(self, state: State, weights: Sequence[Tensor]) -> State:
        """The state behind the last layer."""

    @abstractmethod
    def back(self, S: list[Tensor], λ: list[Tensor], weights: Sequence[Tensor], g: Found, by: Any) -> None:
        """Goes back over all layers, in place; adds each weight's gradient to g, where it is not None, and not wanted.

        Args:
            by: the precision that they were evaluated in, a context; an autocast that is off if there was none.
        """


def rebuilt(run: Run, start: State, end: State | None = None, into: State | None = None) -> State:
    """The state behind the last layer, whose graph holds that state and nothing of the layers between.

    Args:
        start: the state in front of the layers; its value is not looked at where the end is known.
        end: the state behind them, where it is known.
        into: where the backward pass puts what it has rebuilt of the start.
    """
    return _Reversed.apply(run, len(start), end, into, *start, *run.weights())


class _Reversed(torch.autograd.Function):
    """The end of a run of layers as a function of its start and its weights."""

    @staticmethod
    def forward(ctx: Any, run: Run, fields: int, end: State | None, into: State | None, *given: Tensor) -> State:
        start, weights, device = given[:fields], given[fields:], given[0].device.type
        enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        ctx.run, ctx.fields, ctx.into = run, fields, into
        # Casts are not cached, for each row is cast once.
        ctx.autocast = torch.autocast(device, dtype, enabled, cache_enabled=False)
        state = run.forward(start, weights) if end is None else tuple(field.clone() for field in end)
        # Saved, so that weights which have changed since are an error, as they are everywhere in autograd.
        ctx.save_for_backward(*state, *weights)
        ctx.set_materialize_grads(False)
        return state

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        # Asked for once: under gradient checkpointing they are there once.
        saved = ctx.saved_tensors
        S, weights = list(saved[: ctx.fields]), saved[ctx.fields :]
        λ = [torch.zeros_like(a) if g is None else g for a, g in zip(S, gradients, strict=True)]
        learnt = ctx.needs_input_grad[4 + ctx.fields :]
        g = [torch.zeros_like(θ) if wanted else None for θ, wanted in zip(weights, learnt, strict=True)]
        ctx.run.back(S, λ, weights, g, ctx.autocast)
        if ctx.into is not None:
            for field, a in zip(ctx.into, S, strict=True):
                field.copy_(a)
        return None, None, None, None, *λ, *g


@final
class Steps(Run):
    """Steps of an integrator; time step h, that of the second field's first step `kick`."""

    def __init__(self, integrator: Integrator, field: Field, h: float, kick: float):
        assert isinstance(integrator, Reversible), "refused before"
        self.integrator, self.field, self.h, self.kick = integrator, field, h, kick
        self.statistics = field.statistics(track=False)

    def weights(self) -> list[Tensor]:
        return [self.integrator.weights(self.field), *self.field.stacks()[1:]]

    def forward(self, state: State, weights: Sequence[Tensor]) -> State:
        for layer in self.field.layers(weights[0], self.h, self.kick):
            state = self.integrator.step(state, layer)
        return state

    def back(self, S: list[Tensor], λ: list[Tensor], weights: Sequence[Tensor], g: Found, by: Any) -> None:
        rows = list(zip(*(_leaves(θ, total) for θ, total in zip(weights, g, strict=True)), strict=True))
        with by:
            for j in reversed(range(len(rows))):
                # What a step makes of its weights has a graph that ends in them.
                with torch.enable_grad():
                    θ = self.field.expanded(rows[j])
                    layer = self.field.layer(j, θ, self.statistics, self.h, self.h if j else self.kick)
                    shears = self.integrator.shears(layer)
                for a, b, c, f in reversed(shears):
                    value, pull = pulled(f, S[b], by_hand=not by._enabled)
                    S[a] = torch.add(S[a], value, alpha=-c)
                    λ[b] = λ[b] + pull(c * λ[a])


def _leaves(stack: Tensor, total: Tensor | None) -> list[Tensor]:
    """The rows, each as the end of a graph, which adds to a row of `total`; without one they learn nothing."""
    rows = list(stack.detach().unbind(0))
    if total is not None:
        for row, gradient in zip(rows, total.unbind(0), strict=True):
            row.requires_grad_().grad = gradient
    return rows
