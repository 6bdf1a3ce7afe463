"""Stages and a gradient oracle as processes of their own, each at its own pace.

    input half    forward n; asks the oracle for g at h_n; hands h_n on; update n
    output half   takes an h, the oldest new one or an old one; forward; update; sends the oracle the true g at h
    oracle        answers; takes a gradient, a new one or an old one; learns

A stage in the middle is both halves. Nobody waits for another's work, but for the bounds of `Feed` and `Gate`:
max_staleness = 0 leaves one order, that of the pipeline.

What can be trained asynchronously: stages that go on under what a synthesizer says.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, final

import torch
import torch.distributed as dist
from torch import Tensor

from costate.config.settings import Count, Size
from costate.core.schedules import Operation
from costate.core.stage import Stage
from costate.core.types import Input, Labels, State
from costate.execution.asynchronous.lines import Halt, Line, Lines, Roles, owners, share_tensors
from costate.execution.asynchronous.oracle import Feed, Message, Oracle
from costate.execution.asynchronous.wire import Wire
from costate.execution.base import Execution
from costate.execution.clock import SPANS, Clock, Histogram, Traffic
from costate.execution.replicas import from_all, share_optimizer
from costate.interfaces import Learning
from costate.methods import Method
from costate.posts import Passage, Reply

PATIENCE = 5.0
"""Seconds without a word after which a role that waits looks whether the others are still there."""


@final
class Books:
    """The counts of one rank, and with those of the others the totals of the run.

    Args:
        own: the rank's stage, None for a dedicated oracle.
        feed: of the stage.

    Attributes:
        answers: staleness of the synthetic gradients that the stage has used.
        totals: of all ranks, when the books were last closed.
    """

    def __init__(self, roles: Roles, own: int | None, feed: Feed, oracle: Oracle):
        self.roles, self.own, self.oracle = roles, own, oracle
        self.answers = Histogram()
        self.totals: dict[str, float] = {}
        self.feeds: dict[str, Feed] = {f"stage/{own}": feed} if own else {}
        self.feeds |= {f"oracle/{k}": lessons for k, lessons in oracle.lessons.items()}

    def histograms(self) -> dict[str, Histogram]:
        """By role: of the states or lessons that it trains on, and of the answers that it gets."""
        found = {name: feed.staleness for name, feed in self.feeds.items()}
        if self.own is not None and self.own < self.roles.stages - 1:
            found[f"stage/{self.own}/answers" if self.own else "stage/0"] = self.answers
        return found

    def rows(self, traffic: dict[str, float]) -> dict[str, float]:
        """What is logged of this rank, with what its clock says."""
        name = "oracle" if self.own is None else f"stage/{self.own}"
        rows = {f"{name}/{key}": value for key, value in traffic.items() if key not in ("staleness", "queue")}
        for role, feed in self.feeds.items():
            rows[f"{role}/queue"] = float(len(feed.queue))
            rows[f"{role}/dropped"] = float(feed.queue.dropped)
            rows[f"{role}/replayed"] = float(feed.replayed)
        return rows | self._staleness()

    def close(self, lines: Lines) -> None:
        """Adds up the books of all ranks; all call it, behind `gather`."""
        parts = from_all((lines.sent, lines.received, self.rows({})))
        sent, received = (sum(part[which] for part in parts) for which in (0, 1))
        self.totals = {"messages_sent": sent, "messages_received": received, "messages_lost": sent - received}
        for _, _, rows in parts:
            self.totals |= rows

    def _staleness(self) -> dict[str, float]:
        rows = {}
        for role, histogram in self.histograms().items():
            rows[f"{role}/staleness"] = histogram.mean
            rows[f"{role}/staleness_most"] = float(histogram.most)
            rows |= {f"{role}/staleness_{name}": share for name, share in histogram.shares().items()}
        return rows


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
        lag: Size,
        max_staleness: Size,
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
        self.traffic = Traffic(self.clock)
        self.bell = threading.Condition()
        self.halt = Halt(self.bell)
        self.feed = Feed(queue, replay, max_staleness, lag + max_staleness)
        self.begun = self.told = self.gathered = False

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
        held = {k: self.stages[k] for k in self.roles.boundaries_of(rank)}
        self.oracle = Oracle(held, self.lag, self.max_staleness, self.places, self.replay, self.bell)
        self.oracle.take_up(self.replies)
        self.replies = {}
        for stage in self.stages:
            stage.flights, stage.lessons = {}, {}
        self.books = Books(self.roles, self.own, self.feed, self.oracle)
        self.wire = Wire(self, self.interface)
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
            if oracle == behind:
                self.questions.append(lines.open(front, behind, partial(self.answer, k), then=self.deliver))
            else:
                self.questions.append(lines.open(front, oracle, partial(self.answer, k)))
                self.states[k] = lines.open(front, behind, self.deliver)
            self.lessons.append(lines.open(behind, oracle, partial(self.teach, k)))

    def disconnect(self) -> None:
        self.gather()
        self.books.close(self.lines)
        self.lines.close()
        self.wire.close()

    def step(self, n: int, x: Input, y: Labels, more: bool) -> State | None:
        if self.exact:
            raise ValueError(f"{REFUSAL}: choose levels.coarse_method=sg, or execution=pipeline.")
        self._begin(n)
        self.traffic.begin()
        output = None if self.own is None else self._train(n, self.own, x, y)
        for k in self.oracle.stages:
            self._learn(n, k)
        self.traffic.end(queue=0, more=more)
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
        share_tensors(self.stages, self.roles)

    def gather_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        share_optimizer(owners(self.stages, self.roles), optimizer)

    def collect(self, rows: list[Any]) -> list[Any]:
        """From all roles, its own first."""
        parts, own = from_all(rows), dist.get_rank()
        return [row for part in [parts[own], *parts[:own], *parts[own + 1 :]] for row in part]

    def measure(self) -> dict[str, float]:
        """Of each role, as `stage/<k>/...` and `oracle/...` (colocated, the oracle's are its stage's).

        Updates a second, share of the time in which it did not wait, `stall_ms` its waiting an update; `queue` the
        messages that wait for it; `dropped`, `replayed`, since the run began; `staleness` in updates, the mean and, as
        `staleness_<bin>`, the share of the updates in each bin.
        """
        return self.books.rows(self.traffic.measure())

    def account(self) -> dict[str, float]:
        return self.books.totals

    def timeline(self) -> list[Any]:
        return from_all((self.roles.name_of(dist.get_rank()), list(self.clock.spans)))

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

    def deliver(self, number: int, *tensors: Tensor) -> None:
        """Called by the stage in front: a state and the labels."""
        with self.bell:
            self.feed.put(Message(number, tensors))
            self.bell.notify_all()

    def teach(self, k: int, number: int, *tensors: Tensor) -> None:
        """Called by the stage behind boundary k: a state, the labels, and the gradient at that state."""
        with self.bell:
            self.oracle.lessons[k].put(Message(number, tensors))
            self.bell.notify_all()

    def answer(self, k: int, n: int, h: Tensor, y: Tensor) -> tuple[int, Tensor]:
        """Called by stage k for its update n: by how many updates the gradient is behind, and the gradient."""
        g, staleness = self.oracle.answer(k, n, h.to(self.device), y.to(self.device))
        return staleness, g

    def hold(self) -> int:
        return self.halt.hold()

    def release(self, end: int) -> None:
        self.halt.release(end)

    def arrange(self) -> None:
        """Called by whoever was asked to stop, on the rank that holds the first stage."""
        with self.bell:
            if self.halt.arranged:
                return
            self.halt.arranged = True
        ranks = range(self.roles.ranks)
        end = max(self.wire.ask(rank, Asynchronous.hold) for rank in ranks)
        for rank in ranks:
            self.wire.ask(rank, Asynchronous.release, end)

    def _begin(self, n: int) -> None:
        if not self.begun:
            self.begun = True
            self.oracle.start(n)
        if self.asked and not self.told:
            self.told = True
            first = self.roles.rank_of(0)
            threading.Thread(target=self.wire.ask, args=(first, Asynchronous.arrange), daemon=True).start()
        self.halt.begin(n, self._wait)
        self.stopping = n == self.halt.end

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
        self.books.answers.add(staleness)
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
            while not self.bell.wait_for(lambda: lines.failure or happened(), timeout=PATIENCE):
                self.wire.look()
        if lines.failure:
            raise lines.failure


REFUSAL = "execution=asynchronous has no stage that waits for a true gradient"


def check(stages: Sequence[Stage], method: Method, lag: int, max_staleness: int, queue: int) -> None:
    """Before anything is started.

    Raises:
        ValueError: the settings cannot be played asynchronously.
    """
    count = len(stages)
    if count < 2:
        raise ValueError("execution=asynchronous puts each stage on a process of its own: choose stages=2 or more.")
    if not all(isinstance(stage.interface, Learning) for stage in stages[:-1]):
        raise ValueError("execution=asynchronous has an oracle of synthetic gradients: choose method=sg.")
    for n in (0, 10**9):
        updated = [k for operation, k, _ in method.schedule(count, n, lag) if operation is Operation.UPDATE]
        if updated != list(range(count)):
            raise ValueError(f"{REFUSAL}: choose method.warmup_steps=0 and method.mix=0, or execution=pipeline.")
    if max_staleness == 0 and queue <= lag:
        raise ValueError(
            f"execution.queue={queue} has no room for what execution.lag={lag} leaves waiting: "
            f"choose at least {lag + 1}."
        )
