"""The gradient oracle: it holds the synthesizers of some boundaries, answers requests, and learns meanwhile.

Answers are given by the threads of the lines, lessons are taken by the rank's own; between the gradients and the step
that they lead to nobody reads the weights.
"""

import threading
from collections.abc import Mapping
from typing import final

from torch import Tensor

from costate.core.stage import Stage
from costate.execution.feed import Feed, Message
from costate.execution.gate import Gate
from costate.posts import Reply


@final
class Oracle:
    """The synthesizers behind some stages.

    Args:
        stages: by boundary; of each the interface alone is used.
        lag, ahead, places, replay: see `Gate` and `Feed`.
        bell: rung whenever something has changed that somebody may wait for.
    """

    def __init__(
        self, stages: Mapping[int, Stage], lag: int, ahead: int, places: int, replay: int, bell: threading.Condition
    ):
        self.stages, self.bell = stages, bell
        self.gates = {k: Gate(lag, ahead) for k in stages}
        self.lessons = {k: Feed(places, replay, ahead, lag + ahead) for k in stages}
        self.weights = threading.Lock()
        self._learning: dict[int, int] = {}

    def start(self, n: int) -> None:
        """The run begins, or goes on, with update n."""
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
        return {k: [m for m in feed.queue.waiting if m.number >= since] for k, feed in self.lessons.items()}

    def answer(self, k: int, n: int, h: Tensor, y: Tensor) -> tuple[Tensor, int]:
        """The gradient of the mean loss at h, for update n of stage k, and by how many updates it is behind."""
        gate = self.gates[k]
        with self.bell:
            self.bell.wait_for(lambda: gate.opens(n))
            staleness = gate.staleness(n)
        with self.weights:
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
