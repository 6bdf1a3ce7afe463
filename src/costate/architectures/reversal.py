"""Reversible propagation: one state is known, the last, and the backward pass rebuilds the others on its way.

    S_j   state behind layer j, two fields a and b
    λ     gradient of the loss at S_j, one field each
    θ     what a layer learns from, rows of the stacks; the first is what the integrator makes of K

    forward over a shear     a ← a + c f(b; θ)
    backward over it         a ← a − c f(b; θ);   λ_b ← λ_b + c (∂f/∂b)ᵀ λ_a;   g_θ ← g_θ + c (∂f/∂θ)ᵀ λ_a

f is evaluated once on the way back, for the state and for its derivatives: four thirds of the work of backpropagation
that stores (Gomez et al., 2017, 1707.04585; Chang et al., 2018, 1709.03698).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from costate.architectures.fields import Field
from costate.architectures.integrators import Reversible
from costate.architectures.tape import Tape

State = tuple[Tensor, ...]


class Run(NamedTuple):
    """A run of layers; time step h, that of the second field's first step `kick`."""

    integrator: Reversible
    field: Field
    h: float
    kick: float


def rebuilt(run: Run, start: State) -> State:
    """The state behind the last layer, whose graph holds that state and nothing of the layers between.

    Raises:
        ValueError: the state has half precision, in which it could not be rebuilt.
    """
    if start[0].dtype in (torch.bfloat16, torch.float16):
        raise ValueError(
            "arch.reversible=true rebuilds states from their last digits, of which half precision has too few: use "
            "trainer.precision=bf16-mixed or 32-true"
        )
    return _Reversed.apply(run, None, None, *start, *_stacks(run))


def retraced(run: Run, end: State, into: State | None, start: State) -> State:
    """The state behind the last layer, of which it is known that it is `end`, with a graph that begins at `start`.

    Args:
        start: the state in front of the layers, whose value is not looked at.
        into: where the backward pass puts what it has rebuilt of the start.
    """
    return _Reversed.apply(run, end, into, *start, *_stacks(run))


def _stacks(run: Run) -> list[Tensor]:
    """All that the layers learn from, a row a layer: the weights as they are used, with their graph."""
    return [run.integrator.weights(run.field), run.field.b, *run.field.norms.parameters()]


class _Reversed(torch.autograd.Function):
    """The end of a run of layers as a function of its start and its stacks."""

    @staticmethod
    def forward(
        ctx: Any, run: Run, end: State | None, into: State | None, Y: Tensor, Z: Tensor, *stacks: Tensor
    ) -> State:
        ctx.run, ctx.into, ctx.autocast = run, into, _autocast(Y.device.type)
        ctx.layer = run.field.again(run.h, run.kick)
        state: State = (Y, Z) if end is None else tuple(field.clone() for field in end)
        if end is None:
            for layer in run.field.layers(stacks[0], run.h, run.kick):
                state = run.integrator.step(state, layer)
        # Saved, so that weights which have changed since are an error, as they are everywhere in autograd.
        ctx.save_for_backward(*state, *stacks)
        ctx.set_materialize_grads(False)
        return state

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        Y, Z, *stacks = ctx.saved_tensors
        S = [Y, Z]
        λ = [torch.zeros_like(a) if g is None else g for a, g in zip(S, gradients, strict=True)]
        learnt = ctx.needs_input_grad[5:]
        found = [torch.zeros_like(stack) if wanted else None for stack, wanted in zip(stacks, learnt, strict=True)]
        rows = list(zip(*(_leaves(stack, total) for stack, total in zip(stacks, found, strict=True)), strict=True))
        tape = Tape(ctx.run.field, by_hand=not ctx.autocast._enabled)
        with ctx.autocast:
            for j in reversed(range(len(rows))):
                # What a step makes of its weights has a graph that ends in them.
                with torch.enable_grad():
                    shears = ctx.run.integrator.shears(tape.taped(ctx.layer(j, rows[j])))
                for a, b, c, f in reversed(shears):
                    value, pull = tape.evaluate(f, S[b])
                    S[a] = torch.add(S[a], value, alpha=-c)
                    λ[b] = λ[b] + pull(c * λ[a])
        if ctx.into is not None:
            for field, a in zip(ctx.into, S, strict=True):
                field.copy_(a)
        return None, None, None, *λ, *found


def _leaves(stack: Tensor, total: Tensor | None) -> list[Tensor]:
    """The rows, each as the end of a graph, which adds to a row of `total`; without one they learn nothing."""
    rows = list(stack.detach().unbind(0))
    if total is not None:
        for row, gradient in zip(rows, total.unbind(0), strict=True):
            row.requires_grad_().grad = gradient
    return rows


def _autocast(device: str) -> torch.autocast:
    """Today's precision, for later; casts are not cached, for each row is cast once."""
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return torch.autocast(device, dtype, enabled, cache_enabled=False)
