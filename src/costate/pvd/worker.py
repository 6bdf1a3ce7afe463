"""A worker's part of an outer iteration.

    x    where the iteration begins; g = ∇f(x), g_l its own part
    z    the worker's result: its own block minimised over, the other blocks moved along their directions
    μ    by how much, in lengths of the directions
    c    what a decrease is measured by

A result is taken if f(z) ≤ f(x) − c ‖g_l‖², the descent condition of Solodov (1997); else a step along −g_l that
Armijo's rule finds takes its place, or x itself.
"""

from typing import NamedTuple

from torch import Tensor

from costate.pvd.blocks import Blocks
from costate.pvd.objective import Objective, Restriction, Vector
from costate.pvd.solvers import Solver

ARMIJO, SHRINK, TRIES = 1e-4, 0.25, 12


class Start(NamedTuple):
    """x, f(x), ∇f(x), and a direction for every variable or none."""

    x: Tensor
    value: float
    g: Tensor
    d: Tensor | None


class Result(NamedTuple):
    """z, f(z), μ (of the own block: 0), and the seconds that it took."""

    z: Tensor
    value: float
    mu: list[float]
    seconds: float = 0.0


def work(
    f: Objective, start: Start, blocks: Blocks, l: int, solver: Solver, decrease: float, rate: float = 1.0
) -> Result:
    """Minimises f over block l and μ, inexactly; never ends above f(x).

    Args:
        decrease: c.
        rate: factor on the solver's own rate.
    """
    own = blocks.own(l)
    others = blocks.others(l) if start.d is not None else []
    directions = [(part, solver.unit(start.d[part])) for _, part in others] if start.d is not None else []
    problem = Restriction(f, start.x, own, directions)
    found = solver.minimise(problem, problem.start(), rate)
    if found is not None and found[0] <= start.value - decrease * _square(start.g, own):
        mu = [0.0] * len(blocks)
        for (k, _), coefficient in zip(others, problem.coefficients(found[1]).tolist(), strict=True):
            mu[k] = coefficient
        return Result(problem.point(found[1]), found[0], mu)
    return _armijo(f, start, own, len(blocks))


def _armijo(f: Objective, start: Start, own: list[slice], p: int) -> Result:
    """The first of x − t g_l, t = 1, ¼, ..., with f ≤ f(x) − ARMIJO t ‖g_l‖²; x if there is none."""
    square, t = _square(start.g, own), 1.0
    for _ in range(TRIES):
        z = start.x.clone()
        for part in own:
            z[part] -= t * start.g[part]
        value = f.value(z).item()
        if value < start.value and value <= start.value - ARMIJO * t * square:
            return Result(z, value, [0.0] * p)
        t *= SHRINK
    return Result(start.x.clone(), start.value, [0.0] * p)


def _square(g: Vector, own: list[slice]) -> float:
    return sum(g[part].square().sum().item() for part in own)
