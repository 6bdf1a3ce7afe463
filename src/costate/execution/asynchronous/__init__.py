"""Stages and a gradient oracle as processes of their own, each at its own pace.

    input half    forward n; asks the oracle for g at h_n; hands h_n on; update n
    output half   takes an h, the oldest new one or an old one; forward; update; sends the oracle the true g at h
    oracle        answers; takes a gradient, a new one or an old one; learns

A stage in the middle is both halves. Nobody waits for another's work, but for the bounds of `oracle.Feed` and
`oracle.Gate`: max_staleness = 0 leaves one order, that of the pipeline. Messages travel by `lines`.
"""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, final

import torch
import torch.distributed as dist
from torch import Tensor

from costate.config.settings import Count, Size
from costate.core.method import Method
from costate.core.post import Passage, Reply
from costate.core.stage import Stage
from costate.core.types import Input, Labels, State
from costate.execution.asynchronous.lines import Answer, Halt, Line, Lines, Roles, choose
from costate.execution.asynchronous.oracle import REFUSAL, Feed, Message, Oracle, check
from costate.execution.base import Execution
from costate.execution.clock import SPANS, Clock, Histogram
from costate.execution.replicas import from_all, share_module, share_optimizer


@final
class Asynchronous(Execution):
    """Plays one role: a stage, or the oracle; or a stage and, colocated, the synthesizer in front of it.

    Args:
        lag: how many batches late the synthesizers learn in any case, as in a pipeline.
        max_staleness: how many updates more what is used may be behind; 0 plays the pipeline's own order.
        queue: messages that wait for a role; the oldest one makes room, and is counted.
        replay: messages that a role keeps, to train on again when it is ahead of the others.
        oracle: on a process of its own, or each synthesizer on that of the stage behind it.
        interface: of the network, that other hosts can reach; null listens on loopback alone.
        trace: whether to remember what was done when, for a timeline.

    Raises:
        ValueError: there is one stage alone, a stage that would have to wait for a true gradient, or no room in the
            queue for what is late in any case.
    """

    alike, lockstep = True, False

    def __init__(
        self,
        stages: Sequence[Stage],
        method: Method,
        *,
        max_staleness: Size,
        lag: Size,
        queue: Count,
        replay: Count,
        oracle: Literal["dedicated", "colocated"],
        interface: str | None,
        trace: bool,
    ):
        super().__init__(stages, method, lag)
        check(stages, method, lag, max_staleness, queue)
        self.roles = Roles(len(stages), oracle)
        self.max_staleness, self.places, self.replay, self.interface = max_staleness, queue, replay, interface
        self.clock = Clock(SPANS if trace else 0)
        self.bell = threading.Condition()
        self.feed = Feed(queue, replay, max_staleness, lag + max_staleness)
        self.answers = Histogram()
        """Staleness of the synthetic gradients that the stage has used."""
        self.totals: dict[str, float] = {}
        self.begun = self.gathered = False

    def connect(self) -> None:
        """Takes this rank's role; every rank calls it, once torch.distributed is there.

        Raises:
            ValueError: there are not as many ranks as roles.
        """
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        if ranks != self.roles.ranks:
            raise ValueError(
                f"execution=asynchronous with stages={len(self.stages)} and execution.oracle={self.roles.oracle} has "
                f"{self.roles.ranks} roles, each a process of its own: trainer.devices={ranks} does not fit."
            )
        rank = dist.get_rank()
        self.own = self.roles.stage_of(rank)
        self.device = next(self.stages[0].parameters()).device
        held = {k: stage for k, stage in enumerate(self.stages[:-1]) if self.roles.oracle_of(k) == rank}
        self.oracle = Oracle(held, self.device, self.lag, self.max_staleness, self.places, self.replay, self.bell)
        self.oracle.take_up(self.replies)
        self.replies = {}
        for stage in self.stages:
            stage.flights, stage.lessons = {}, {}
        self.feeds = {f"stage/{self.own}": self.feed} if self.own else {}
        self.feeds |= {f"oracle/{k}": lessons for k, lessons in self.oracle.lessons.items()}
        os.environ["GLOO_SOCKET_IFNAME"] = choose(self.interface, os.environ)
        # A thread that answers gets the interpreter from one that computes after 5 ms otherwise.
        sys.setswitchinterval(1e-4)
        # The last: from now on others may send.
        self._open()

    def _open(self) -> None:
        """The lines of each boundary; where the oracle is with the stage behind, a question brings the state."""
        self.lines = lines = Lines(self.bell)
        self.questions: list[Line] = []
        self.states: dict[int, Line] = {}
        self.lessons: list[Line] = []
        for k in range(len(self.stages) - 1):
            front, behind, oracle = self.roles.rank_of(k), self.roles.rank_of(k + 1), self.roles.oracle_of(k)
            answer, put = partial(self._answer, k), partial(self._put, self.feed)
            self.questions.append(lines.open(front, oracle, answer, then=put if oracle == behind else None))
            if oracle != behind:
                self.states[k] = lines.open(front, behind, put)
            self.lessons.append(lines.open(behind, oracle, partial(self._put, self.oracle.lessons.get(k))))
        self.halt = Halt(lines, self.roles.ranks, first=self.roles.rank_of(0))

    def disconnect(self) -> None:
        self.gather()
        counts, rows = zip(*from_all((self.lines.counts, self._rows({}))), strict=True)
        sent, received = map(sum, zip(*counts, strict=True))
        self.totals = {"messages_sent": sent, "messages_received": received, "messages_lost": sent - received}
        self.totals |= {name: value for part in rows for name, value in part.items()}
        self.lines.close()

    def step(self, n: int, x: Input, y: Labels, ahead: int) -> State | None:
        if self.exact:
            raise ValueError(f"{REFUSAL}: choose levels.coarse_method=sg, or execution=pipeline.")
        if not self.begun:
            self.begun = True
            self.oracle.start(n)
        self.stopping = self.halt.begin(n, self.asked, self._wait)
        self.clock.begin()
        output = None if self.own is None else self._train(n, self.own, x, y)
        for k in self.oracle.stages:
            self._learn(n, k)
        self.clock.end(queue=0, more=ahead > 0)
        return output if self.own == len(self.stages) - 1 else None

    def average(self) -> None:
        # The optimizer's step comes next.
        self.oracle.weights.acquire()

    def stepped(self) -> None:
        self.oracle.weights.release()
        self.oracle.stepped()
        self.gathered = False

    def gather(self) -> None:
        """Gives every rank the tensors of all roles, when all that was sent has arrived."""
        if self.gathered:
            return
        self.gathered = True
        self.lines.flush(self._wait)
        for part, rank in self.roles.owners(self.stages):
            share_module(part, rank)

    def gather_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        share_optimizer(self.roles.owners(self.stages), optimizer)

    def collect(self, rows: list[Any]) -> list[Any]:
        """From all roles, its own first."""
        parts, own = from_all(rows), dist.get_rank()
        return [row for part in [parts[own], *parts[:own], *parts[own + 1 :]] for row in part]

    def measure(self) -> dict[str, float]:
        """Of each role, as `stage/<k>/...` and `oracle/...` (colocated, the oracle's are its stage's): what its clock
        says, `queue`, messages that wait for it, `dropped` and `replayed` since the run began, and `staleness` in
        updates: the mean, the most, and as `staleness_<bin>` the share of the updates in each bin.
        """
        return self._rows(self.clock.measure())

    def account(self) -> dict[str, float]:
        return self.totals

    def timeline(self) -> list[Any]:
        return from_all(("oracle" if self.own is None else f"stage {self.own}", list(self.clock.spans)))

    def state_dict(self) -> dict[str, Any]:
        """What the synthesizers have still to learn from, as any execution can take it up."""
        parts = from_all(self.oracle.pending(self.halt.next - self.lag))
        found = {k: messages for part in parts for k, messages in part.items()}
        return {
            "flights": [{} for _ in self.stages],
            "lessons": [{n: (h, y) for n, (h, y, _) in found.get(k, [])} for k in range(len(self.stages))],
            "gradients": {(k, n): g for k, messages in sorted(found.items()) for n, (_, _, g) in messages},
            "states": {},
            "copies": {},
        }

    def _put(self, feed: Feed | None, number: int, *tensors: Tensor) -> None:
        """Called by the stage in front: a state and the labels; by the one behind: and the gradient at that state."""
        assert feed is not None, "a message comes to whom it is for"
        with self.bell:
            feed.put(Message(number, tensors))
            self.bell.notify_all()

    def _answer(self, k: int, n: int, h: Tensor, y: Tensor) -> Answer:
        """Called by stage k for its update n: by how many updates the gradient is behind, and the gradient."""
        g, staleness = self.oracle.answer(k, n, h.to(self.device), y.to(self.device))
        return staleness, g

    def _train(self, n: int, own: int, x: Tensor, y: Tensor) -> Tensor:
        """The stage's part of update n."""
        stage, new, number = self.stages[own], True, n
        if own > 0:
            with self.clock.span("wait for state", n):
                (number, (x, y)), new = self._take(self.feed, n)
            self.labels = y
        with self.clock.span("forward", n):
            h = stage.send(n, x, y, first=own == 0)
        if own == len(self.stages) - 1:
            with self.clock.span("update", n):
                passage = stage.update(n, None)
        else:
            passage = self._update(n, own, h, y)
        if own > 0 and new:
            assert passage is not None, "a stage behind another has a gradient for it"
            self.lessons[own - 1].send(number, x, y, passage.g)
        return h

    def _update(self, n: int, own: int, h: Tensor, y: Tensor) -> Passage | None:
        """Under the oracle's gradient."""
        stage = self.stages[own]
        with self.clock.span("wait for gradient", n):
            staleness, g = self.questions[own].ask(n, h, y)
        self.answers.add(staleness)
        if own in self.states:
            self.states[own].send(n, h, y)
        with self.clock.span("update", n):
            kept = stage.flights[n].h
            assert kept is not None, "a stage that is to update has its graph"
            up = stage.update(n, Reply(g.to(self.device, kept.dtype)), exact=True)
        # The oracle learns, not we.
        stage.lessons.pop(n)
        return up

    def _learn(self, n: int, k: int) -> None:
        """The synthesizer's part of update n."""
        oracle = self.oracle
        with self.clock.span("wait for room", n):
            self._wait(lambda: oracle.gates[k].due(n))
        if n >= self.lag:
            with self.clock.span("wait for gradient", n):
                message, _ = self._take(oracle.lessons[k], n - self.lag)
            with self.clock.span("learn", n):
                oracle.learn(k, message)

    def _take(self, feed: Feed, n: int) -> tuple[Message, bool]:
        with self.bell:
            self._wait(lambda: feed.ready(n))
            (number, tensors), new = feed.take()
        return Message(number, tuple(tensor.to(self.device) for tensor in tensors)), new

    def _wait(self, happened: Callable[[], bool]) -> None:
        lines = self.lines
        with self.bell:
            self.bell.wait_for(lambda: lines.failure or happened())
        if lines.failure:
            raise lines.failure

    def _rows(self, traffic: dict[str, float]) -> dict[str, float]:
        """What this rank's feeds have counted, with what its clock says."""
        name = "oracle" if self.own is None else f"stage/{self.own}"
        rows = {f"{name}/{key}": value for key, value in traffic.items() if key not in ("staleness", "queue")}
        for role, feed in self.feeds.items():
            counts = {"queue": len(feed.waiting), "dropped": feed.dropped, "replayed": feed.replayed}
            rows |= {f"{role}/{key}": float(count) for key, count in counts.items()}
            rows |= feed.staleness.rows(role)
        if self.own is not None and self.own < len(self.stages) - 1:
            rows |= self.answers.rows(f"stage/{self.own}/answers" if self.own else "stage/0")
        return rows
