"""Who plays the schedule of a method: what all executions have in common.

Beside `step` these are copies of stages that others hold (`begin` to `receive_copies`, `holders`), and what is pending
between two batches (`state_dict`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from costate.core.copies import CopiedBlocks, Kind
from costate.core.interface import EachSpan, Learning, Loss
from costate.core.method import Method
from costate.core.post import GradientAndState, Post, Reply
from costate.core.schedules import Event, Operation
from costate.core.stage import Flight, Stage
from costate.core.tasks import Task
from costate.core.types import Input, Labels, State
from costate.execution.clock import Span
from costate.methods.coarse import Coarse
from costate.methods.compression import Coded, Precision, coding
from costate.pvd import Team


class Execution(ABC):
    """Plays a method's schedule, event by event, and carries the messages between the stages.

    Attributes:
        stages: in the order of the forward pass; the last one's interface is the loss.
        method: whose schedule is played.
        lag: how many batches late the interfaces learn.
        coding: how states and letters travel from stage to stage.
        exact: see `guide`.
        replies: those that have come up and are of use yet, by stage in front of the boundary and batch.
        staleness: of this process's stages, batches by which what a stage, or its interface, has last learnt from
            was late.
        updated: of the same stages, the batch of the latest update.
        peers: the ranks over which the gradients of this process's stages are averaged; None: all.
        alike: whether all processes are given the same rows, so that there is nothing to add up over them.
        in_time: whether it plays spans of steps, and not stages in depth.
        lockstep: whether all processes may `gather` in the middle of a step.
        asked: whether this process was asked to stop.
        stopping: whether all processes stop behind the batch just played, because one was asked to.
        copied: numbers of the copies under way, by what they are of.
        copies: when they are made and taken; see `core.copies`.
        labels: of the batch that `step` has played, where it is not the one that it was given.
    """

    alike, lockstep, in_time = False, True, False

    def __init__(self, stages: Sequence[Stage], method: Method, lag: int, wire: Precision = "full"):
        if not self.in_time and any(isinstance(stage.interface, EachSpan) for stage in stages):
            raise ValueError(
                f"execution={type(self).__name__.lower()} plays stages in depth, and a recurrent network is unrolled "
                "in time: leave execution=... out, or choose execution=unrolled."
            )
        self.stages, self.method, self.lag = stages, method, lag
        self.coding, self.coded = coding(wire), wire != "full"
        if self.coded and isinstance(method.post(self.task), GradientAndState):
            raise ValueError(f"method=petra rebuilds states from their last digits: leave execution.wire={wire} out.")
        self.replies: dict[tuple[int, int], Reply] = {}
        self.staleness: dict[int, int] = {}
        self.updated: dict[int, int] = {}
        self.peers: torch.distributed.ProcessGroup | None = None
        self.asked = self.stopping = False
        self.exact: Method | None = None
        self.labels: Labels | None = None
        self.copied: dict[Kind, Tensor] = {}
        self.copies = None if method.copies is None else method.copies.over(1)
        self._batch = 0

    @property
    def share(self) -> tuple[int, int]:
        """The replica that this process belongs to, and how many there are, where processes hold parts of a network."""
        return 0, 1

    @abstractmethod
    def step(self, n: int, x: Input, y: Labels, ahead: int) -> State | None:
        """Batch n: leaves gradients in `.grad`; returns the network's output where this process has the last stage.

        Args:
            ahead: how many batches follow at once, as far as that is known.
        """

    def connect(self) -> None:  # noqa: B027  (here and below: one process has nobody to talk to)
        """Called on every process once, when all are there."""

    def disconnect(self) -> None:  # noqa: B027
        """Called on every process once, when the training has come to its end."""

    @abstractmethod
    def average(self) -> None:
        """Puts the mean over the replicas of this process's stages into `.grad`."""

    def plan(self, batches: int) -> None:
        """Says how long the run is; until then what is a share of it falls on every batch."""
        if self.method.copies is not None:
            self.copies = self.method.copies.over(batches)

    def begin(self, n: int) -> None:
        """Called by `step` before anything else: interfaces take the copies that are due."""
        self._batch = n
        if self.copies is None or not self.copies.taken(n):
            return
        self.receive_copies()
        for k, kind, copies, i in self.holders():
            if self.trains(k) and kind in self.copied:
                copies.take(i, self.copied[kind])
        self.copied = {}

    def stepped(self) -> None:
        """Called when the optimizer has made the step that `average` came before: copies are made that are due."""
        if self.copies is not None and self.copies.made(self._batch):
            self.copied = {kind: self._numbers(*kind) for kind in self._held if self.trains(kind[0])}
            self.send_copies()

    @cached_property
    def _held(self) -> set[Kind]:
        return {kind for _, kind, _, _ in self.holders()}

    def _numbers(self, j: int, exact: bool) -> Tensor:
        likeness = self.stages[j].likeness
        assert likeness is not None, "somebody holds its copy"
        return likeness.numbers(self.stages[j].block, exact)

    def tuning(self, n: int, k: int) -> bool:
        """Whether stage k makes its copy more like itself on batch n."""
        return self.copies is not None and self.copies.tuned(n) and (k, False) in self._held

    def trains(self, k: int) -> bool:
        """Whether this process trains stage k."""
        return True

    def send_copies(self) -> None:  # noqa: B027
        """Sends the copies that were just made to the processes that train the stages in front."""

    def receive_copies(self) -> None:  # noqa: B027
        """Takes in the copies that are under way from other processes."""

    def gather(self) -> None:  # noqa: B027
        """Gives every process what the others have trained; where all train alike there is nothing to give."""

    def collect(self, rows: list[Any]) -> list[Any]:
        """What each process has measured of the stages that it trains, together."""
        return rows

    def gather_optimizer(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: B027
        """Gives every process the optimizer's state of what the others have trained."""

    def team(self) -> Team:
        """Who does the work of the workers of parallel variable distribution.

        Raises:
            ValueError: nobody does here.
        """
        raise ValueError(
            "method=pvd has workers and no stages that run side by side: choose execution=parallel, one worker a "
            "process, or execution=serial, one worker after the other."
        )

    def guide(self, exact: Method | None) -> None:
        """From the next batch on stages train under true gradients, as this method has them come up, while interfaces
        learn from them: on coarse levels; None, or one of the run's kind: as its own does. What is pending is, too.

        Raises:
            ValueError: the run's own interfaces learn from something else.
        """
        post, exact = self.method.post(self.task), None if type(exact) is type(self.method) else exact
        learning = any(isinstance(stage.interface, Learning) for stage in self.stages)
        if exact is not None and learning and not (post is not None and post.gradients):
            raise ValueError(
                "Interfaces of this method learn from losses, and levels.coarse_method=backprop or delayed sends them "
                "gradients: choose levels.coarse_method=sg, the method's own."
            )
        self.exact = exact
        memories = (exact or self.method).memories([stage.block for stage in self.stages])
        for stage, memory in zip(self.stages, memories, strict=True):
            stage.memory = memory

    def schedule(self, n: int) -> Iterator[Event]:
        """The operations of all stages for batch n."""
        return (self.exact or self.method).schedule(len(self.stages), n, self.lag)

    def measure(self) -> dict[str, float]:
        """How stages get on, since this process was last asked, by the names under which numbers are logged."""
        return {f"stage/{k}/staleness": float(late) for k, late in self.staleness.items()}

    def account(self) -> dict[str, float]:
        """Totals of the whole run, when it has come to its end, by the names under which they are kept."""
        return {}

    def work(self) -> dict[str, float]:
        """Seconds of stages that take turns here: `stage/<k>` in batches in which none waits, `locked` in others."""
        return {}

    def timeline(self) -> list[tuple[str, list[Span]]]:
        """What every process has done when, if that was to be remembered; all processes ask together."""
        return []

    def stop(self) -> None:
        """Asks for an end behind a batch that is the same one for all processes; `stopping` says when it has come."""
        self.asked = True

    def through(self, blocks: Sequence[Any], x: Input) -> State:
        """What other weights, blocks like the stages' own, make of the samples of the latest batch."""
        for block in blocks:
            x = block(x)
        return x

    @property
    def post(self) -> Post | None:
        """What goes up for each batch, if anything does."""
        post = (self.exact or self.method).post(self.task)
        return Coded(post, self.coding) if self.coded and post is not None else post

    @property
    def loss(self) -> Loss:
        """What stands behind the last stage."""
        last = self.stages[-1].interface
        loss = last.behind if isinstance(last, EachSpan) else last
        assert isinstance(loss, Loss), "a network ends with its loss"
        return loss

    @property
    def task(self) -> Task:
        """What the network is trained for."""
        return self.loss.task

    def note(self, event: Event, n: int) -> None:
        """Remembers from which batch a stage, or its interface, has just learnt while batch n was played."""
        operation, k, batch = event
        if operation is Operation.UPDATE:
            self.updated[k] = batch
        if operation is Operation.UPDATE or isinstance(self.stages[k].interface, Learning):
            self.staleness[k] = n - batch

    def abandon(self) -> None:
        """Called behind `gather`: forgets the batches to update on, which are another network's."""
        for stage in self.stages:
            stage.flights = {}
        self.copied = {}
        self.replies = {(k, n): reply for (k, n), reply in self.replies.items() if n in self.stages[k].lessons}

    def renew(self) -> None:
        """Called on every process when layers have been replaced: interfaces copy them as they are now."""
        for stage in self.stages:
            if stage.likeness is not None:
                stage.likeness.deepen(stage.block)
        for _, kind, copies, i in self.holders():
            copies.deepen(i, self.stages[kind[0]].block)
            copies.take(i, self._numbers(*kind))

    def relate(self) -> None:
        """Called on every process where training begins: copies are told whose they are, of whatever depth by now."""
        for stage in self.stages:
            if stage.likeness is not None:
                stage.likeness.delta.stand_for(stage.block)
        for _, (j, _), copies, i in self.holders():
            copies.deepen(i, self.stages[j].block)

    def holders(self) -> Iterator[tuple[int, Kind, CopiedBlocks, int]]:
        """Who holds copies of whom: stage k one of this kind, as the i-th of these."""
        for k, stage in enumerate(self.stages):
            behind = stage.interface.copies if isinstance(stage.interface, Coarse) else None
            for copies, j in ((behind, k + 1), (stage.front, 0)):
                if copies is not None:
                    yield from ((k, (j + i, copies.exact(i)), copies, i) for i in range(len(copies.blocks)))

    def state_dict(self) -> dict[str, Any]:
        """The batches that stages have still to update on, or interfaces to learn from: a resumed run skips none."""
        return {
            "flights": [{n: _saved(flight) for n, flight in stage.flights.items()} for stage in self.stages],
            "lessons": [dict(stage.lessons) for stage in self.stages],
            "gradients": {key: reply.g for key, reply in self.replies.items()},
            "states": {key: reply.h for key, reply in self.replies.items() if reply.h is not None},
            "copies": dict(self.copied),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Takes up where `state_dict` left off."""
        state = move_data_to_device(state, device)
        for k, stage in enumerate(self.stages):
            stage.flights = {n: Flight(k == 0, **kept) for n, kept in state["flights"][k].items()}
            stage.lessons = {n: tuple(lesson) for n, lesson in state["lessons"][k].items()}
        # Earlier versions had one kind of copies.
        kinds = {kind[0]: kind for kind in self._held}
        self.copied = {kinds.get(key, key): numbers for key, numbers in state["copies"].items()}
        self.replies = {tuple(key): Reply(g, state["states"].get(key)) for key, g in state["gradients"].items()}


def _saved(flight: Flight) -> dict[str, Any]:
    """All but the graph, which is made again of the rest."""
    rows = {name: rows.detach() for name, rows in (("y", flight.y), ("x", flight.x)) if rows is not None}
    weights = flight.weights and {name: weight.detach() for name, weight in flight.weights.items()}
    return {**rows, "weights": weights, "origin": flight.origin}
