"""The workers of parallel variable distribution, one a process.

    rank 0   S W A Y   S W A Y        S   f and its gradient, on all ranks alike
    rank 1   S W A Y   S W A Y        W   rank l minimises over block l
                                      A   everybody gets all results
                                      Y   synchronisation, on all ranks alike

Every rank holds the whole network and sees the same batches.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn, final

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from costate.config.settings import Count
from costate.core.method import Method
from costate.core.stage import Stage
from costate.core.types import Input, Labels
from costate.execution.base import Execution
from costate.execution.replicas import any_rank
from costate.methods.variable_distribution import VariableDistribution
from costate.pvd import Result, Team


@final
class OneEach(Team):
    """Rank l does the work of worker l, and tells all others."""

    def results(self, work: Callable[[int], Result], p: int) -> list[Result]:
        z, value, mu, seconds = work(dist.get_rank())
        points = _gather(z, p)
        numbers = _gather(torch.tensor([value, seconds, *mu], dtype=torch.float64, device=z.device), p)
        told = [row.tolist() for row in numbers]
        return [Result(z, value, mu, seconds) for z, (value, seconds, *mu) in zip(points, told, strict=True)]

    def agree(self, decision: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Rank 0's: where processors differ, so may the last bits of what they have found."""
        dist.broadcast(decision, src=0)
        return decision

    def busy(self, seconds: Sequence[float]) -> float:
        return max(seconds)

    def mean(self, numbers: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Every rank has all samples."""
        return numbers


def _gather(message: Tensor, p: int) -> list[Tensor]:
    parts = [torch.empty_like(message) for _ in range(p)]
    dist.all_gather(parts, message)
    return parts


@final
class Parallel(Execution):
    """Rank l does what worker l has to do; weights stay equal on all ranks, bit for bit.

    Args:
        workers: number of processes, one for each block.

    Raises:
        ValueError: the method has no workers, or not so many, or one alone.
    """

    alike = True

    def __init__(self, stages: Sequence[Stage], method: Method, *, workers: Count):
        super().__init__(stages, method, 0)
        if not isinstance(method, VariableDistribution):
            raise ValueError(
                "execution=parallel runs the workers of method=pvd: choose that method, or another execution."
            )
        if workers != method.blocks:
            raise ValueError(
                f"workers={workers} and method.blocks={method.blocks}: execution=parallel runs one worker a process, "
                f"each with its block; set method.blocks and leave workers out."
            )
        if workers == 1:
            raise ValueError("execution=parallel runs one worker a process: choose method.blocks=2 or more.")
        self.workers = workers

    def connect(self) -> None:
        """Counts the ranks.

        Raises:
            ValueError: there are not as many as workers.
        """
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        if ranks != self.workers:
            raise ValueError(
                f"execution=parallel runs one worker a process: workers={self.workers}, but ranks={ranks}."
            )

    def team(self) -> Team:
        return OneEach()

    def step(self, n: int, x: Input, y: Labels, more: bool) -> NoReturn:
        raise AssertionError("there are workers and no stages to play a schedule with")

    def average(self) -> None:
        self.stopping = any_rank(self.asked, next(self.stages[0].parameters()).device)
