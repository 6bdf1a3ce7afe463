"""The workers of parallel variable distribution, one a process.

    rank 0   S W A Y   S W A Y        S   f and its gradient, on all ranks alike
    rank 1   S W A Y   S W A Y        W   rank l minimises over block l
                                      A   everybody gets all results
                                      Y   synchronisation, on all ranks alike

Every rank holds the whole network and sees the same batches.
"""

from collections.abc import Sequence
from typing import Any, NoReturn, final

import torch
import torch.distributed as dist

from costate.config.settings import Count
from costate.execution.base import Execution
from costate.execution.one_each import OneEach
from costate.execution.replicas import any_rank
from costate.methods import Method, VariableDistribution
from costate.pvd import Team
from costate.stage import Stage
from costate.types import Input, Labels


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

    def gather(self) -> None:
        """Ranks are equal."""

    def collect(self, rows: list[Any]) -> list[Any]:
        return rows

    def gather_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Ranks are equal."""
