"""Optimizers make the steps of their equations, on every group at its own rate."""

from typing import Any

import pytest
import torch
from torch import Tensor

from costate.training.optimizers import Adam, Sgd

RATES = 0.1, 0.03
STEPS = 4


def trained(optimizer: Any) -> list[Tensor]:
    """Two groups after some steps of given gradients."""
    generator = torch.Generator().manual_seed(0)
    groups = [torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_() for _ in RATES]
    made = optimizer([{"params": [p], "lr": rate} for p, rate in zip(groups, RATES, strict=True)])
    for _ in range(STEPS):
        for p in groups:
            p.grad = torch.randn(5, generator=generator, dtype=torch.float64)
        made.step()
    return [p.detach() for p in groups]


def written_out(step: Any) -> list[Tensor]:
    """The same by `step`: θ and state from θ, g, state, the number of the step and the rate."""
    generator = torch.Generator().manual_seed(0)
    θ = [torch.randn(5, generator=generator, dtype=torch.float64) for _ in RATES]
    states: list[Any] = [None for _ in RATES]
    for n in range(1, STEPS + 1):
        for i, rate in enumerate(RATES):
            g = torch.randn(5, generator=generator, dtype=torch.float64)
            θ[i], states[i] = step(θ[i], g, states[i], n, rate)
    return θ


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_adam(decay):
    """m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²; θ ← θ − η (m̂ / (√v̂ + ε) + λ θ)."""

    def step(θ: Tensor, g: Tensor, state: Any, n: int, rate: float) -> tuple[Tensor, Any]:
        m, v = state or (torch.zeros_like(g), torch.zeros_like(g))
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        direction = m / (1 - 0.8**n) / ((v / (1 - 0.95**n)).sqrt() + 1e-3)
        return θ - rate * (direction + decay * θ), (m, v)

    found = trained(Adam(lr=1.0, interfaces=1.0, betas=[0.8, 0.95], eps=1e-3, weight_decay=decay))
    torch.testing.assert_close(found, written_out(step))


@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd(decay, momentum, nesterov):
    """v ← μ v + g + λ θ; θ ← θ − η v, with Nesterov's momentum θ ← θ − η (g + λ θ + μ v)."""

    def step(θ: Tensor, g: Tensor, v: Any, n: int, rate: float) -> tuple[Tensor, Any]:
        g = g + decay * θ
        v = g if v is None else momentum * v + g
        return θ - rate * (g + momentum * v if nesterov else v), v

    optimizer = Sgd(lr=1.0, interfaces=1.0, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    torch.testing.assert_close(trained(optimizer), written_out(step))
