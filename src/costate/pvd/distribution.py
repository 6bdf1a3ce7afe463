"""An outer iteration: parallelisation, then synchronisation."""

import time
from dataclasses import dataclass
from typing import final

from costate.pvd.blocks import Blocks
from costate.pvd.objective import Objective, Vector
from costate.pvd.solvers import Solver
from costate.pvd.synchronisation import Hull
from costate.pvd.team import Team
from costate.pvd.worker import Result, Start, work


@dataclass(frozen=True)
class Outcome:
    """What an outer iteration has come to, and what it has cost.

    Attributes:
        x: the new point.
        value: f there.
        start: f where the iteration began.
        results: of the workers.
        lam: λ.
        communication: seconds that the parallelisation took beyond its work.
        synchronisation: seconds of the synchronisation.
    """

    x: Vector
    value: float
    start: float
    results: list[Result]
    lam: list[float]
    communication: float
    synchronisation: float

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
