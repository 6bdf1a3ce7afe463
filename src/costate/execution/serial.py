"""All stages in one process, under any trainer; several processes are replicas of each other."""

from abc import ABC
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from costate.config.settings import Size
from costate.core.method import Method
from costate.core.post import Post
from costate.core.schedules import Event, Operation, waits
from costate.core.stage import Stage
from costate.core.types import Input, Labels, State
from costate.execution.base import Execution
from costate.execution.clock import Clock
from costate.execution.replicas import any_rank, average_gradients, joint_mean, joint_rows, own_rows, place, with_rows
from costate.methods.compression import Precision
from costate.pvd import InTurn, Team


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

    def step(self, n: int, x: Input, y: Labels, more: bool = False) -> State:
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
            passage = stage.update(batch, self.replies.get((k, batch)), self.exact is not None, self.tuning(batch))
            if passage is not None and post is not None:
                self.replies[k - 1, batch] = post.read(post.write(passage), passage.x)
            self.note(event, n)
        elif operation is Operation.LEARN and (k, batch) in self.replies:
            stage.learn(batch, self.replies.pop((k, batch)).g)
            self.note(event, n)
        return h
