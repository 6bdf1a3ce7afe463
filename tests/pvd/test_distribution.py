"""Parallel variable distribution on functions whose minimum is known."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from costate.pvd import Blocks, Distribution, InTurn, Objective, Outcome, Solver, Start
from costate.pvd.distribution import work
from costate.pvd.objective import Adam, Lbfgs

N = 24
LBFGS = Lbfgs(steps=12, history=10)


class Quadratic(Objective):
    """½ xᵀHx − bᵀx, strongly convex, with the minimum at H⁻¹b."""

    def __init__(self, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        A = torch.randn(N, N, generator=generator, dtype=torch.float64)
        self.H = A @ A.T / N + 0.3 * torch.eye(N, dtype=torch.float64)
        self.b = torch.randn(N, generator=generator, dtype=torch.float64)
        self.minimum = torch.linalg.solve(self.H, self.b)

    def value(self, x: Tensor) -> Tensor:
        return 0.5 * x @ self.H @ x - self.b @ x

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.value(x), self.H @ x - self.b


class Bumpy(Quadratic):
    """A function with many local minima."""

    def value(self, x: Tensor) -> Tensor:
        return super().value(x) + 3 * torch.cos(4 * x).sum()

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, g = super().gradient(x)  # the value is self.value's
        return value, g - 12 * torch.sin(4 * x)


def start(f: Objective, x: Tensor, forget_me_not: bool = True) -> Start:
    value, g = f.gradient(x)
    return Start(x, value.item(), g, -g if forget_me_not else None)


def run(f: Objective, blocks: Blocks, solver: Solver, iterations: int, forget_me_not: bool = True) -> list[Outcome]:
    x, found = torch.zeros(N, dtype=torch.float64), []
    algorithm = Distribution(solver, steps=6, decrease=1e-4)
    for _ in range(iterations):
        found.append(algorithm.iterate(f, start(f, x, forget_me_not), blocks, InTurn()))
        x = found[-1].x
    return found


@pytest.mark.parametrize(
    ("p", "shared", "forget_me_not"), [(1, 0, True), (2, 0, False), (2, 4, True), (4, 0, True), (4, 4, False)]
)
def test_a_strongly_convex_quadratic_reaches_its_minimum_at_a_linear_rate(p, shared, forget_me_not):
    f = Quadratic()
    least = f.value(f.minimum).item()
    found = run(f, Blocks([(N - shared) // p] * p, shared), LBFGS, 60, forget_me_not)
    gaps = [outcome.value - least for outcome in found]
    assert all(after < 0.85 * before for before, after in pairwise(gaps) if before > 1e-11)
    torch.testing.assert_close(found[-1].x, f.minimum, rtol=0, atol=1e-5)


def test_the_forget_me_not_terms_make_it_faster():
    f, blocks = Quadratic(), Blocks([N // 2] * 2)
    least = f.value(f.minimum).item()
    with_them, without = (run(f, blocks, LBFGS, 12, wish)[-1].value - least for wish in (True, False))
    assert with_them < without / 100


def test_one_worker_is_the_plain_solver():
    x0, f = torch.ones(N, dtype=torch.float64), Quadratic()
    for solver, plain in (
        (Adam(steps=9, lr=0.01), lambda x: torch.optim.Adam([x], lr=0.01, fused=True)),
        (LBFGS, lambda x: torch.optim.LBFGS([x], max_iter=12, history_size=10, line_search_fn="strong_wolfe")),
    ):
        x = x0.clone()
        optimizer = plain(x)

        def closure(x: Tensor = x) -> Tensor:
            value, x.grad = f.gradient(x)
            return value

        for _ in range(9 if isinstance(solver, Adam) else 1):
            optimizer.step(closure)
        outcome = Distribution(solver, steps=6, decrease=1e-4).iterate(f, start(f, x0), Blocks([N]), InTurn())
        assert torch.equal(outcome.x, x)
        assert (outcome.lam, outcome.value) == ([1.0], f.value(x).item())


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    p=st.integers(1, 4),
    steps=st.integers(1, 6),
    forget_me_not=st.booleans(),
    solver=st.sampled_from([Lbfgs(steps=2, history=3), Adam(steps=3, lr=3.0), Adam(steps=5, lr=0.01)]),
)
def test_f_never_rises(seed, p, steps, forget_me_not, solver):
    f = Bumpy(seed)
    x = torch.randn(N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    begin = start(f, x, forget_me_not)
    outcome = Distribution(solver, steps, 1e-4).iterate(f, begin, Blocks([N // 4] * p, N - N // 4 * p), InTurn())
    ends = [result.value for result in outcome.results]
    assert outcome.value <= min(ends) <= max(ends) <= begin.value
    assert [f.value(result.z).item() for result in outcome.results] == ends
    assert f.value(outcome.x).item() == outcome.value
    hull = sum(l * (result.z - x) for l, result in zip(outcome.lam, outcome.results, strict=True))
    torch.testing.assert_close(outcome.x - x, hull, rtol=0, atol=1e-9)


def test_a_worker_moves_the_blocks_of_others_along_their_directions_alone():
    """The minimum of a quadratic over x + span P: its own block, what all own, a direction for each other block."""
    f, blocks, x = Quadratic(), Blocks([8, 6, 6], 4), torch.ones(N, dtype=torch.float64)
    begin = start(f, x)
    result = work(f, begin, blocks, 1, Lbfgs(steps=60, history=20), 1e-4)
    P = torch.zeros(N, 12, dtype=torch.float64)
    P[8:14, :6], P[20:, 6:10] = torch.eye(6), torch.eye(4)
    P[0:8, 10], P[14:20, 11] = LBFGS.unit(begin.d[0:8]), LBFGS.unit(begin.d[14:20])
    least = torch.linalg.solve(P.T @ f.H @ P, P.T @ (f.b - f.H @ x))
    torch.testing.assert_close(result.z, x + P @ least, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        [result.mu[k] for k in range(3)], [least[10].item(), 0.0, least[11].item()], rtol=0, atol=1e-5
    )
    without = work(f, begin._replace(d=None), blocks, 1, LBFGS, 1e-4)
    assert torch.equal(without.z[:8], x[:8])
    assert torch.equal(without.z[14:20], x[14:20])


class Astray(Solver):
    """Goes nowhere, or up."""

    def __init__(self, by: float):
        self.by = by

    def minimise(self, f: Objective, v: Tensor, rate: float = 1.0) -> tuple[float, Tensor]:
        return f.value(v + self.by).item(), v + self.by

    def unit(self, d: Tensor) -> Tensor:
        return d


@pytest.mark.parametrize("shared", [0, 4])
@pytest.mark.parametrize("by", [0.0, 100.0, float("nan")])
def test_a_worker_whose_solver_has_failed_takes_a_step_along_the_gradient(by, shared):
    """Of all that it owns, what all own included, and of nothing else."""
    size = (N - shared) // 2
    f, blocks, x = Quadratic(), Blocks([size] * 2, shared), torch.ones(N, dtype=torch.float64)
    begin = start(f, x)
    result = work(f, begin, blocks, 0, Astray(by), 1e-4)
    own = torch.arange(N)[[*range(size), *range(N - shared, N)]]
    assert result.value == f.value(result.z).item() < begin.value - 1e-3 * begin.g[own].square().sum()
    steps = (x - result.z)[own] / begin.g[own]
    torch.testing.assert_close(steps, steps[:1].expand(size + shared))
    assert torch.equal(result.z[size : 2 * size], x[size : 2 * size])
    there = work(f, start(f, f.minimum), blocks, 0, Astray(by), 1e-4)
    torch.testing.assert_close(there.z, f.minimum, rtol=0, atol=1e-12)


def test_synchronisation_finds_the_least_value_of_the_hull():
    """On a quadratic that is a small linear system."""
    f, x = Quadratic(), torch.ones(N, dtype=torch.float64)
    outcome = Distribution(Lbfgs(steps=3, history=3), 12, 1e-4).iterate(f, start(f, x), Blocks([8] * 3), InTurn())
    C = torch.stack([result.z - x for result in outcome.results], dim=1)
    best = torch.linalg.solve(C.T @ f.H @ C, C.T @ (f.b - f.H @ x))
    torch.testing.assert_close(torch.tensor(outcome.lam, dtype=torch.float64), best, rtol=0, atol=1e-4)


def test_l_bfgs_keeps_to_its_evaluations():
    class Counting(Bumpy):
        asked = 0

        def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
            self.asked += 1
            return super().gradient(x)

    f = Counting()
    Lbfgs(steps=8, history=5).minimise(f, torch.ones(N, dtype=torch.float64))
    assert f.asked <= 11
