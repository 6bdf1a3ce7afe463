"""An outer iteration: what a worker does, what becomes of the workers' results, who does it.

x        where it begins; g = ∇f(x), g_l the part of worker l's own variables
z_l      worker l's result, with value f_l;  b the best of them
μ        by how much it moves other blocks, in lengths of their directions
c        what a decrease is measured by
λ ∈ Rᵖ   x(λ) = x + Σ_l λ_l (z_l − x), the affine hull of x and all z_l;  λ = e_b + δ
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from costate.pvd.objective import Blocks, Lbfgs, Objective, Restriction, Solver, Vector

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

    A result is taken if f(z) ≤ f(x) − c ‖g_l‖², the descent condition of Solodov (1997); else a step along −g_l that
    Armijo's rule finds takes its place, or x itself.

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


class Team(ABC):
    """Carries out the parallelisation of an outer iteration."""

    @abstractmethod
    def results(self, work: Callable[[int], Result], p: int) -> list[Result]:
        """work(0), ..., work(p − 1), the same bits on every process."""

    @abstractmethod
    def agree(self, decision: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """The decision of one process, on all of them."""

    @abstractmethod
    def busy(self, seconds: Sequence[float]) -> float:
        """How long the work takes the team, if it takes each worker so long."""

    @abstractmethod
    def mean(self, numbers: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Over the processes that share out the samples of f, if there are several."""


@final
class InTurn(Team):
    """This process does everything, one worker after the other.

    Args:
        mean: over the processes that share out the samples of f; None: there are none.
    """

    def __init__(self, mean: Callable[[Tensor], Tensor] | None = None):
        self._mean = mean

    def results(self, work: Callable[[int], Result], p: int) -> list[Result]:
        return [work(l) for l in range(p)]

    def agree(self, decision: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        return decision

    def busy(self, seconds: Sequence[float]) -> float:
        return sum(seconds)

    def mean(self, numbers: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return numbers if self._mean is None else self._mean(numbers)


@final
class Hull:
    """The synchronisation: minimises f over the affine hull of x and the workers' results, from δ = 0 on.

    Along each z_l − x three numbers are known before anything is evaluated, f(x), the slope s_l = ⟨g, z_l − x⟩ and f_l.
    They give the curvature q_l = 2 (f_l − f(x) − s_l), and δ_l is scaled by 1 / √q_l, so that the first step is about
    as long as it should be.

    Attributes:
        best: b.
    """

    def __init__(self, start: Start, results: Sequence[Result]):
        self.start, self.results = start, results
        self.best = min(range(len(results)), key=lambda l: results[l].value)
        self.columns = [result.z - start.x for result in results]

    def restriction(self, f: Objective, scales: Tensor | None = None) -> Restriction:
        """f as a function of δ, which may be scaled."""
        whole = slice(0, len(self.start.x))
        return Restriction(f, self.results[self.best].z, [], [(whole, column) for column in self.columns], scales)

    def minimise(self, f: Objective, steps: int) -> tuple[Tensor, float]:
        """δ, and f there, not above the best worker's.

        Args:
            steps: of L-BFGS, each about an evaluation of f and its gradient.
        """
        none = self.start.x.new_zeros(len(self.results)), self.results[self.best].value
        if len(self.results) == 1:
            return none
        scales = torch.stack([*map(self._scale, self.columns, self.results)])
        found = Lbfgs(steps=steps, history=len(self.results)).minimise(self.restriction(f, scales), none[0])
        if found is None or not found[0] < none[1]:
            return none
        return scales * found[1], found[0]

    def coefficients(self, delta: Tensor) -> list[float]:
        """λ."""
        return [x + (l == self.best) for l, x in enumerate(delta.tolist())]

    def _scale(self, column: Tensor, result: Result) -> Tensor:
        """1 / √q; where f bends down, the slope stands in for q, and where nothing moves, nothing is scaled."""
        s = (self.start.g * column).sum()
        q = torch.maximum(2 * (result.value - self.start.value - s), s.abs())
        return torch.where(q > 0, q, torch.ones_like(q)).rsqrt()


@dataclass(frozen=True)
class Outcome:
    """What an outer iteration has come to, and what it has cost."""

    x: Vector
    value: float  # f there
    start: float  # f where the iteration began
    results: list[Result]
    lam: list[float]  # λ
    communication: float  # seconds that the parallelisation took beyond its work
    synchronisation: float  # seconds

    @property
    def slowest(self) -> float:
        """Seconds of the worker that took longest."""
        return max(result.seconds for result in self.results)


@final
class Distribution:
    """The algorithm: f(x_new) ≤ min_l f(z_l) ≤ f(x).

    Args:
        solver: of the workers' problems.
        steps: of the synchronisation.
        decrease: c, what a worker's decrease is measured by.
    """

    def __init__(self, solver: Solver, steps: int, decrease: float):
        self.solver, self.steps, self.decrease = solver, steps, decrease

    def iterate(self, f: Objective, start: Start, blocks: Blocks, team: Team, rate: float = 1.0) -> Outcome:
        """One outer iteration from `start`.

        Args:
            rate: factor on the solver's own rate, if it has one.
        """

        def timed(l: int) -> Result:
            since = time.perf_counter()
            result = work(f, start, blocks, l, self.solver, self.decrease, rate)
            return result._replace(seconds=time.perf_counter() - since)

        begin = time.perf_counter()
        results = team.results(timed, len(blocks))
        middle = time.perf_counter()
        hull = Hull(start, results)
        delta, value = hull.minimise(f, self.steps)
        delta = team.agree(delta)
        x = hull.restriction(f).point(delta)
        end = time.perf_counter()
        between = middle - begin - team.busy([result.seconds for result in results])
        return Outcome(x, value, start.value, results, hull.coefficients(delta), between, end - middle)
