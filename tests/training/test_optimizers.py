"""Optimizers make the steps of their equations, on every group at its own rate, and rates change over a run as said."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from composing import config, options
from costate.training.optimizers import Adam, Constant, Cosine, Exponential, Muon, Sgd, orthogonal
from running import QUIET, SMALL, fit, last

RATES = 0.1, 0.03
STEPS = 4


def trained(optimizer: Any) -> list[Tensor]:
    """Two groups after some steps of given gradients."""
    generator = torch.Generator().manual_seed(0)
    groups = [torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_() for _ in RATES]
    made = optimizer([{"params": [p], "lr": rate} for p, rate in zip(groups, RATES, strict=True)], [])
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


SETTINGS = {"lr": 0.01, "betas": (0.9, 0.999), "weight_decay": 0.1}


@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 4, 9), (2, 9, 4)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape):
    """U Σ Vᵀ -> U Σ′ Vᵀ, 0.6 < Σ′ < 1.25 where Σ is not far below its largest value."""
    torch.manual_seed(0)
    U, _, Vh = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    Σ = torch.linspace(0.2, 1, min(shape[1:]), dtype=torch.float64)
    core = U.mT @ orthogonal(3.0 * (U * Σ) @ Vh) @ Vh.mT
    diagonal = core.diagonal(dim1=1, dim2=2)
    assert torch.allclose(core, torch.diag_embed(diagonal), atol=1e-12)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.25


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="an older torch has none")
@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 4, 4, 3, 3)])
def test_each_layer_of_a_stack_steps_as_torch_steps_a_matrix(shape):
    """Which computes in bfloat16."""
    torch.manual_seed(0)
    stack = nn.Parameter(torch.randn(shape))
    layers = [nn.Parameter(layer.detach().flatten(1).clone()) for layer in stack]
    ours = Muon([stack], [stack], **SETTINGS)
    theirs = torch.optim.Muon(layers, lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        stack.grad = torch.randn(shape)
        for layer, gradient in zip(layers, stack.grad, strict=True):
            layer.grad = gradient.flatten(1)
        before = stack.detach().clone()
        ours.step()
        theirs.step()
    assert torch.allclose(stack.flatten(2), torch.stack(list(layers)), atol=0.1 * (stack - before).abs().max().item())


def test_everything_else_is_adamw_bit_for_bit():
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((4,), (5, 4), (2, 3, 4, 4))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    one, other = Muon(ours, [], **SETTINGS, fused=True), torch.optim.AdamW(theirs, **SETTINGS, fused=True)
    for _ in range(3):
        for p, q in zip(ours, theirs, strict=True):
            q.grad = p.grad = torch.randn_like(p)
        one.step()
        other.step()
    assert all(map(torch.equal, ours, theirs))


def test_it_steps_like_adam_in_size_and_a_parameter_without_gradient_stands_still():
    torch.manual_seed(0)
    stack, still = nn.Parameter(torch.zeros(2, 32, 32)), nn.Parameter(torch.ones(2, 3, 3))
    stack.grad = torch.randn_like(stack)
    gradient = stack.grad.clone()
    Muon([stack, still], [stack, still], **SETTINGS).step()
    assert stack.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)
    assert torch.equal(still, torch.ones_like(still))
    assert torch.equal(stack.grad, gradient), "those who measure find it"


ONE_STEP = (*SMALL, *QUIET, "data.batch_size=96", "epochs=1", "optimizer=sgd", "optimizer.momentum=0")


def test_interfaces_have_a_rate_of_their_own(tmp_path: Path):
    """Synthesizers start at zero, so a first step of three times the rate ends three times as far; blocks do not."""
    once, thrice = (
        last(fit(tmp_path / str(factor), *ONE_STEP, f"optimizer.interfaces={factor}"))["state_dict"]
        for factor in (1, 3)
    )
    learnt = [name for name in once if ".interface." in name]
    assert learnt
    assert any(once[name].any() for name in learnt)
    for name in once:
        factor = 3 if name in learnt else 1
        assert torch.allclose(thrice[name], factor * once[name], rtol=1e-6, atol=0), name


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_early_stages_have_more_momentum_with_nadam(stages):
    """β₁ = 0.9 at the last one, whose gradients come at once; 0.99 at the first of several."""
    rule = instantiate(config("optimizer=nadam").optimizer, _convert_="all")
    # All but the first learn a likeness, too, which moved the line: the last stage had 0.92, of four.
    names = [f"{part}/{k}" for k in range(stages) for part in ("block", "likeness") if (part, k) != ("likeness", 0)]
    groups = rule([{"params": [torch.zeros(1, requires_grad=True)], "name": name} for name in names], []).param_groups
    expected = {f"{k}": 0.9 + 0.09 * (stages - 1 - k) / max(stages - 1, 1) for k in range(stages)}
    assert [group["betas"] for group in groups] == [(pytest.approx(expected[name[-1]]), 0.999) for name in names]


POINTS = [i / 64 for i in range(65)]


@pytest.mark.parametrize("name", options("annealing"))
def test_the_rate_is_positive_and_never_above_the_optimizers(name):
    factors = [instantiate(config(f"annealing={name}").annealing, _convert_="all").factor(s) for s in POINTS]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == pytest.approx(1, abs=0.05)
    top = factors.index(max(factors))
    assert factors[top:] == sorted(factors[top:], reverse=True), "down, once it has been up"
    assert factors[: top + 1] == sorted(factors[: top + 1])


@pytest.mark.parametrize(("warmup", "floor"), [(0.0, 0.0), (0.25, 0.0), (0.25, 0.1), (1.0, 0.5)])
def test_cosine(warmup, floor):
    """A line to 1, then floor + (1 − floor) (1 + cos πt) / 2 over what is left of the run."""
    factor = Cosine(warmup=warmup, floor=floor).factor
    for s in POINTS:
        if s < warmup:
            assert factor(s) == max(s / warmup, 0.01)
        else:
            t = (s - warmup) / (1 - warmup) if warmup < 1 else 1.0
            assert factor(s) == pytest.approx(floor + (1 - floor) * math.cos(math.pi * t / 2) ** 2)
    assert factor(1.5) == pytest.approx(floor), "a run that goes on stays there"


def test_constant_and_exponential():
    assert all(Constant().factor(s) == 1 for s in POINTS)
    factor = Exponential(final=0.01).factor
    assert factor(0) == 1
    for a, b in zip(POINTS, reversed(POINTS), strict=True):
        assert factor(a) * factor(b) == pytest.approx(0.01)
        assert factor(a / 2) ** 2 == pytest.approx(factor(a))


def test_muon_steps_on_what_the_closure_makes_of_gradients():
    """Whoever bounds them, or looks at them, does so there; stacks once had none by then."""
    stack = torch.ones(2, 3, 3, requires_grad=True)
    stack.grad = g = torch.randn(2, 3, 3)
    seen, expected = [], g.norm()

    def closure() -> None:
        seen.append(stack.grad.clone())
        stack.grad.zero_()

    Muon([stack], [stack], **{**SETTINGS, "weight_decay": 0}).step(closure)
    assert [found.norm() for found in seen] == [expected]
    assert torch.equal(stack.detach(), torch.ones(2, 3, 3))


@pytest.mark.parametrize("name", options("optimizer"))
def test_every_number_of_half_precision_moves(name):
    """Torch's fused step of SGD left all of a tensor but its end where it was."""
    optimizer = instantiate(config(f"optimizer={name}", "optimizer.lr=0.5").optimizer, _convert_="all")
    ends = []
    for kind in (torch.bfloat16, torch.float64):
        p = torch.zeros(6, 50, dtype=kind).requires_grad_()
        made = optimizer([{"params": [p], "lr": 0.5}], [])
        p.grad = torch.linspace(1, 2, 300).view(6, 50).to(kind)
        made.step()
        ends.append(p.detach().double())
    torch.testing.assert_close(*ends, rtol=0.02, atol=0)


def test_filters_of_a_user_are_no_stack_of_layers(tmp_path):
    """Those of a convolution over one axis or over three have as many axes as a stack has."""
    words = ("arch=sequential", "arch.module=own_network:line", "optimizer=muon", "method=backprop", "epochs=1")
    kept = last(fit(tmp_path, *SMALL[:3], *QUIET, *words))["optimizer_states"][0]["state"]
    assert [sorted(state) for state in kept.values()] == [["exp_avg", "exp_avg_sq", "step"]] * 4


@pytest.mark.parametrize(
    ("words", "rows"),
    [(("method=backprop",), 1), (("method=delayed",), 4), (("method=replay",), 4), (("method=petra",), 4)],
)
def test_the_rate_is_that_of_the_rows_of_a_step(words, rows):
    """Pieces of a batch, for memory's sake, are no more rows: they took twice the rate."""
    one, four = (config(*words, f"method.accumulate={a}").optimizer.lr for a in (1, 4))
    assert four == pytest.approx(one * rows**0.5, abs=2e-6)


def test_under_autocast_which_is_of_the_passes_muon_steps_in_the_precision_of_its_weights():
    """Lightning steps optimizers inside of it, and with bf16-mixed the products of an orthogonal step had 3 digits."""
    torch.manual_seed(0)
    G = torch.randn(3, 6, 9)
    expected = orthogonal(G)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(orthogonal(G), expected)
