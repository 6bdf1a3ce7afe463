"""Reversible propagation: the last state alone is stored, and the backward pass rebuilds the others on its way.

    S_j   state behind layer j, two fields a and b
    λ     gradient of the loss at S_j, one field each
    θ     weights of a layer

    forward over a shear     a ← a + c f(b; θ)
    backward over it         a ← a − c f(b; θ);   λ_b ← λ_b + c (∂f/∂b)ᵀ λ_a;   g_θ ← g_θ + c (∂f/∂θ)ᵀ λ_a

f is evaluated once on the way back, for the state and for its derivatives: four thirds of the work of backpropagation
that stores (Gomez et al., 2017, 1707.04585; Chang et al., 2018, 1709.03698). The derivatives are those written by hand
in `retrace`, and autograd's where norms or autocast are in f.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from costate.architectures.fields import Field, Layer
from costate.architectures.integrators import Reversible, Shear
from costate.architectures.retrace import Tape

State = tuple[Tensor, ...]


class Run(NamedTuple):
    """A run of layers.

    Attributes:
        steps: the layers, for the way forward.
        layer: layer j under other tensors in place of its rows of the stacks, for the way back.
    """

    integrator: Reversible
    field: Field
    steps: Callable[[], list[Layer]]
    layer: Callable[[int, Sequence[Tensor]], Layer]


def rebuilt(run: Run, state: State, stacks: Sequence[Tensor]) -> State:
    """The state behind the last layer, whose graph holds that state and nothing of the layers between.

    Args:
        state: in front of the first layer.
        stacks: all that the layers learn, a row a layer, as they are used here.

    Raises:
        ValueError: the state has half precision, in which it could not be rebuilt.
    """
    if state[0].dtype in (torch.bfloat16, torch.float16):
        raise ValueError(
            "arch.reversible=true rebuilds states from their last digits, of which half precision has too few: use "
            "trainer.precision=bf16-mixed or 32-true"
        )
    return _Rebuilt.apply(run, *state, *stacks)


class _Rebuilt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Run, Y: Tensor, Z: Tensor, *stacks: Tensor) -> State:
        ctx.run, ctx.autocast = run, _autocast(Y.device.type)
        state: State = (Y, Z)
        for layer in run.steps():
            state = run.integrator.step(state, layer)
        # Saved, so that weights which have changed since are an error, as they are everywhere in autograd.
        ctx.save_for_backward(*state, *stacks)
        ctx.set_materialize_grads(False)
        return state

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        Y, Z, *stacks = ctx.saved_tensors
        state: State = (Y, Z)
        λ = [torch.zeros_like(a) if g is None else g for a, g in zip(state, gradients, strict=True)]
        learnt = ctx.needs_input_grad[3:]
        if len(stacks) == 2 and all(learnt) and not ctx.autocast._enabled:
            learned = _by_hand(ctx.run, [Y, Z], λ, stacks)
            return None, *λ, *learned
        found = [torch.zeros_like(stack) if wanted else None for stack, wanted in zip(stacks, learnt, strict=True)]
        layers = list(zip(*(_leaves(stack, total) for stack, total in zip(stacks, found, strict=True)), strict=True))
        # Nothing but the leaves wants a gradient here, so graphs are those of f alone.
        with ctx.autocast, torch.enable_grad():
            for j in reversed(range(len(layers))):
                for shear in reversed(ctx.run.integrator.shears(ctx.run.layer(j, layers[j]))):
                    state = _back(shear, state, λ)
        return None, *λ, *found


def _by_hand(run: Run, S: list[Tensor], λ: list[Tensor], stacks: Sequence[Tensor]) -> list[Tensor]:
    """Turns λ into the gradient in front of the layers; returns those of K and b."""
    tape = Tape(run.field)
    rows = list(zip(*(stack.detach().unbind(0) for stack in stacks), strict=True))
    for j in reversed(range(len(rows))):
        for a, b, c, f in reversed(run.integrator.shears(tape.taped(j, run.layer(j, rows[j])))):
            S[a] = torch.add(S[a], f(S[b]), alpha=-c)
            λ[b] = λ[b] + tape.pull(c * λ[a])
    return [tape.found["K"], tape.found["b"]]


def _back(shear: Shear, state: State, λ: list[Tensor]) -> State:
    """The state in front of the shear; turns λ into the gradient there, and adds to those of the weights."""
    a, b, c, f = shear
    source = state[b].detach().requires_grad_()
    value = f(source)
    if value is source:
        λ[b] = torch.add(λ[b], λ[a], alpha=c)
    else:
        torch.autograd.backward(value, (c * λ[a]).to(value.dtype))
        assert source.grad is not None
        λ[b] = λ[b] + source.grad
    front = torch.add(state[a], value.detach(), alpha=-c)
    return (front, state[1]) if a == 0 else (state[0], front)


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
