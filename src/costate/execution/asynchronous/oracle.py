"""The gradient oracle: it holds the synthesizers of some boundaries, answers requests, and learns meanwhile.

    n       number of an update, a role's own
    c       number of a message, its sender's update
    newest  the largest c that has arrived
    a       requests of a stage that have been answered
    v       the newest message that a synthesizer has learnt from
    L       lag, by which it learns late in any case
    S       max_staleness, by how many updates more a role may be away from another; 0 is the pipeline's own order
    A       the most that a message may be behind the newest one, L + S

`Feed`, what a role trains on: update n is on the oldest message that is new; without one, on an old one drawn at random
if n ≤ newest + S; else it waits. newest − c ≤ A holds for every message that is trained on.

`Gate`, neither may run away from the other: the stage's request n is answered when n − 1 − v ≤ L + S, the synthesizer's
update n may begin when n + 1 − a ≤ S.

As in stale synchronous parallel training (Ho et al., 2013), a bound on the distance of the clocks bounds the age of all
that is used.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from costate.core.interface import Learning, Loss
from costate.core.method import Method
from costate.core.post import Gradient, Reply
from costate.core.schedules import Operation
from costate.core.stage import Stage
from costate.execution.clock import Histogram

REFUSAL = "execution=asynchronous has no stage that waits for a true gradient"


class Message(NamedTuple):
    """Tensors that a role has computed in its update `number`."""

    number: int
    tensors: tuple[Any, ...]


@final
class Feed:
    """A bounded queue of new messages, whose oldest one makes room, and a bounded replay of old ones.

    Args:
        places: in the queue.
        replay: messages that are kept to be trained on again.
        ahead: S.
        age: A; a message that gets older in the queue is dropped.

    Attributes:
        waiting: the queue.
        received, taken, dropped: how many have come, been trained on, and been lost; received = taken + dropped +
            waiting, always.
        replayed: updates on old messages.
        staleness: of the messages that were trained on, newest − c.
    """

    def __init__(self, places: int, replay: int, ahead: int, age: int):
        self.places, self.ahead, self.age = places, ahead, age
        self.waiting: deque[Message] = deque()
        self.replay: deque[Message] = deque(maxlen=replay)
        self.newest = -1
        self.received = self.taken = self.dropped = self.replayed = 0
        self.staleness = Histogram()
        self._random = random.Random(0)

    def put(self, message: Message) -> None:
        """A message has arrived."""
        self.newest = max(self.newest, message.number)
        self.waiting.append(message)
        self.received += 1
        while len(self.waiting) > self.places or self.newest - self.waiting[0].number > self.age:
            self.waiting.popleft()
            self.dropped += 1
        while self.replay and self.newest - self.replay[0].number > self.age:
            self.replay.popleft()

    def ready(self, n: int) -> bool:
        """Whether there is something for update n."""
        return bool(self.waiting) or (bool(self.replay) and n <= self.newest + self.ahead)

    def take(self) -> tuple[Message, bool]:
        """A message to train on, and whether it is a new one; asked when `ready`."""
        new = bool(self.waiting)
        if new:
            message = self.waiting.popleft()
            self.taken += 1
            self.replay.append(message)
        else:
            message = self._random.choice(self.replay)
            self.replayed += 1
        self.staleness.add(self.newest - message.number)
        return message, new


@final
class Gate:
    """Holds a stage and the synthesizer behind it together; L is the lag, S how far they may be ahead."""

    def __init__(self, lag: int, ahead: int):
        self.lag, self.ahead = lag, ahead
        self.answered: int | None = None
        self.learnt = -1

    def start(self, n: int) -> None:
        """The run begins, or goes on, with update n."""
        self.answered, self.learnt = n, max(-1, n - 1 - self.lag)

    def staleness(self, n: int) -> int:
        """Of an answer to request n, given now: the updates in front that the synthesizer knows nothing of."""
        return max(0, n - 1 - self.learnt)

    def opens(self, n: int) -> bool:
        """Whether request n may be answered."""
        return self.answered is not None and self.staleness(n) <= self.lag + self.ahead

    def due(self, n: int) -> bool:
        """Whether the synthesizer's update n may begin."""
        return self.answered is not None and n + 1 - self.answered <= self.ahead


@final
class Oracle:
    """The synthesizers behind some stages.

    Answers are given by the threads of the lines, lessons are taken by the rank's own; between the gradients and the
    step that they lead to nobody reads the weights.

    Args:
        stages: by boundary; of each the interface alone is used.
        lag, ahead, places, replay: see `Gate` and `Feed`.
        bell: rung whenever something has changed that somebody may wait for.
    """

    def __init__(
        self,
        stages: Mapping[int, Stage],
        device: torch.device,
        lag: int,
        ahead: int,
        places: int,
        replay: int,
        bell: threading.Condition,
    ):
        self.stages, self.device, self.bell = stages, device, bell
        self.gates = {k: Gate(lag, ahead) for k in stages}
        self.lessons = {k: Feed(places, replay, ahead, lag + ahead) for k in stages}
        self.weights = threading.Lock()
        self._learning: dict[int, int] = {}
        self.casting: Callable[[], torch.autocast]

    def start(self, n: int) -> None:
        """The run begins, or goes on, with update n, in the precision of the thread that says so; others answer."""
        kind = self.device.type
        half, on = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        self.casting = partial(torch.autocast, kind, dtype=half, enabled=on)
        with self.bell:
            for gate in self.gates.values():
                gate.start(n)
            self.bell.notify_all()

    def take_up(self, replies: Mapping[tuple[int, int], Reply]) -> None:
        """A checkpoint holds what the synthesizers have still to learn from: lessons of the stages, and gradients."""
        for (k, n), reply in sorted(replies.items(), key=lambda row: row[0]):
            lesson = self.stages[k].lessons.get(n) if k in self.stages else None
            if lesson is not None:
                self.lessons[k].put(Message(n, (*lesson, reply.g)))

    def pending(self, since: int) -> dict[int, list[Message]]:
        """Lessons that have not been taken, by boundary, of batches from `since` on."""
        return {k: [m for m in feed.waiting if m.number >= since] for k, feed in self.lessons.items()}

    def answer(self, k: int, n: int, h: Tensor, y: Tensor) -> tuple[Tensor, int]:
        """The gradient of the mean loss at h, for update n of stage k, and by how many updates it is behind."""
        gate = self.gates[k]
        with self.bell:
            self.bell.wait_for(lambda: gate.opens(n))
            staleness = gate.staleness(n)
        with self.weights, self.casting():
            g = self.stages[k].interface.gradient(h, y, None, n)
        with self.bell:
            gate.answered = n + 1
            self.bell.notify_all()
        return g, staleness

    def learn(self, k: int, message: Message) -> None:
        """Puts the gradients of a regression at boundary k into `.grad`: h, y, and the gradient that came up there."""
        c, (h, y, g) = message
        stage = self.stages[k]
        stage.lessons[c] = h, y
        stage.learn(c, g)
        self._learning[k] = c

    def stepped(self) -> None:
        """The weights have made their step."""
        with self.bell:
            for k, c in self._learning.items():
                self.gates[k].learnt = max(self.gates[k].learnt, c)
            self._learning.clear()
            self.bell.notify_all()


def check(stages: Sequence[Stage], method: Method, lag: int, max_staleness: int, queue: int) -> None:
    """Of settings, before anything is started.

    Raises:
        ValueError: they cannot be played asynchronously.
    """
    count = len(stages)
    if count < 2:
        raise ValueError("execution=asynchronous puts each stage on a process of its own: choose stages=2 or more.")
    loss = stages[-1].interface
    assert isinstance(loss, Loss), "a network ends with its loss"
    post = method.post(loss.task)
    if not all(isinstance(stage.interface, Learning) for stage in stages[:-1]) or post is None or not post.gradients:
        raise ValueError("execution=asynchronous has an oracle of synthetic gradients: choose method=sg.")
    if not isinstance(post, Gradient):
        raise ValueError("execution=asynchronous sends gradients as they are: leave method.compress out.")
    for n in (0, 10**9):
        updated = [k for operation, k, _ in method.schedule(count, n, lag) if operation is Operation.UPDATE]
        if updated != list(range(count)):
            raise ValueError(f"{REFUSAL}: choose method.warmup_steps=0 and method.mix=0, or execution=pipeline.")
    if max_staleness == 0 and queue <= lag:
        raise ValueError(
            f"execution.queue={queue} has no room for what execution.lag={lag} leaves waiting: "
            f"choose at least {lag + 1}."
        )
