"""Every process holds the whole network: all stages in one process, replicas of it, or the workers of method=pvd.

Parallel variable distribution, one worker a process, all on the same batches:

    rank 0   S W A Y   S W A Y        S   f and its gradient, on all ranks alike
    rank 1   S W A Y   S W A Y        W   rank l minimises over block l
                                      A   everybody gets all results
                                      Y   synchronisation, on all ranks alike
"""

from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, final

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from costate.config.settings import Count, Size
from costate.core.method import Method
from costate.core.post import Post
from costate.core.schedules import Event, Operation, waits
from costate.core.stage import Stage
from costate.core.types import Input, Labels, State
from costate.execution.base import Execution
from costate.execution.clock import Clock
from costate.execution.replicas import any_rank, average_gradients, joint_mean, joint_rows, own_rows, place, with_rows
from costate.methods.compression import Precision
from costate.methods.variable_distribution import VariableDistribution
from costate.pvd import InTurn, Result, Team


class Replicated(Execution, ABC):
    """Every process holds the whole network; they share out the rows of each batch, and average their gradients."""

    def average(self) -> None:
        if place()[1] == 1:
            self.stopping = self.asked
            return
        parameters = [p for stage in self.stages for p in stage.parameters()]
        average_gradients(parameters)
        self.stopping = any_rank(self.asked, parameters[0].device)


@final
class Serial(Replicated):
    """One process holds all stages, and plays their operations one after the other.

    Args:
        lag: how many batches late the interfaces learn.
        wire: in which precision states and letters go from stage to stage, as in a pipeline.
    """

    def __init__(self, stages: Sequence[Stage], method: Method, *, lag: Size, wire: Precision = "full"):
        super().__init__(stages, method, lag, wire)
        self.clock = Clock()

    def step(self, n: int, x: Input, y: Labels, ahead: int = 0) -> State:
        self.begin(n)
        h = x
        events = list(self.schedule(n))
        post = self.post
        # Where nothing comes up there is nothing to wait for.
        locked = waits([event for event in events if event.operation is not Operation.LEARN or post])
        for event in events:
            with self.clock.span("locked" if locked else f"stage/{event.stage}", event.batch):
                h = self._play(event, n, x, h, y, post)
        return h

    def work(self) -> dict[str, float]:
        return dict(self.clock.seconds)

    def team(self) -> Team:
        return InTurn(joint_mean)

    def state_dict(self) -> dict[str, Any]:
        return with_rows(super().state_dict(), joint_rows)

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        super().load_state_dict(with_rows(state, own_rows), device)

    def _play(self, event: Event, n: int, x: Tensor, h: Tensor, y: Labels, post: Post | None) -> Tensor:
        """One operation while batch n is played; returns the state that goes down."""
        operation, k, batch = event
        stage = self.stages[k]
        if operation is Operation.FORWARD:
            if k > 0:
                h = self.coding.round_trip(h) if stage.front is None else stage.guess(x)
            return stage.send(batch, h, y, first=k == 0)
        if operation is Operation.UPDATE and batch in stage.flights:
            passage = stage.update(batch, self.replies.get((k, batch)), self.exact is not None, self.tuning(batch, k))
            if passage is not None and post is not None:
                self.replies[k - 1, batch] = post.read(post.write(passage), passage.x)
            self.note(event, n)
        elif operation is Operation.LEARN and (k, batch) in self.replies:
            stage.learn(batch, self.replies.pop((k, batch)).g)
            self.note(event, n)
        return h


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

    def step(self, n: int, x: Input, y: Labels, ahead: int) -> NoReturn:
        raise AssertionError("there are workers and no stages to play a schedule with")

    def average(self) -> None:
        self.stopping = any_rank(self.asked, next(self.stages[0].parameters()).device)
