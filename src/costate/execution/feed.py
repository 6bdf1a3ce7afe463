"""What a role trains on: messages that come when they come, each numbered by its sender's update.

    n       the role's own update
    c       number of a message
    newest  the largest c that has arrived
    S       by how many updates a role may be ahead of what has arrived
    A       the most that a message may be behind the newest one

Update n is on the oldest message that is new; without one, on an old one drawn at random if n ≤ newest + S; else it
waits. newest − c ≤ A holds for every message that is trained on. With S = 0 nothing is trained on twice.
"""

import random
from collections import deque
from typing import Any, NamedTuple, final

from costate.execution.bounded import Queue
from costate.execution.histogram import Histogram


class Message(NamedTuple):
    """Tensors that a role has computed in its update `number`."""

    number: int
    tensors: tuple[Any, ...]


@final
class Feed:
    """A bounded queue of new messages and a bounded replay of old ones.

    Args:
        places: in the queue; in a full one the oldest message is dropped, and counted.
        replay: messages that are kept to be trained on again.
        ahead: S.
        age: A; a message that gets older in the queue is dropped, and counted.

    Attributes:
        staleness: of the messages that were trained on, newest − c.
        replayed: updates on old messages.
    """

    def __init__(self, places: int, replay: int, ahead: int, age: int):
        self.ahead, self.age = ahead, age
        self.queue: Queue[Message] = Queue(places)
        self.replay: deque[Message] = deque(maxlen=replay)
        self.newest = -1
        self.staleness = Histogram()
        self.replayed = 0
        self._random = random.Random(0)

    def put(self, message: Message) -> None:
        """A message has arrived."""
        self.newest = max(self.newest, message.number)
        self.queue.put(message)
        while self.newest - self.queue.waiting[0].number > self.age:
            self.queue.drop()
        while self.replay and self.newest - self.replay[0].number > self.age:
            self.replay.popleft()

    def ready(self, n: int) -> bool:
        """Whether there is something for update n."""
        return bool(self.queue) or (bool(self.replay) and n <= self.newest + self.ahead)

    def take(self) -> tuple[Message, bool]:
        """A message to train on, and whether it is a new one; asked when `ready`."""
        new = bool(self.queue)
        if new:
            message = self.queue.take()
            self.replay.append(message)
        else:
            message = self._random.choice(self.replay)
            self.replayed += 1
        self.staleness.add(self.newest - message.number)
        return message, new
