"""A queue that does not grow: when it is full, the oldest item makes room, and is counted."""

from collections import deque
from typing import Generic, TypeVar, final

Item = TypeVar("Item")


@final
class Queue(Generic[Item]):
    """First in, first out, with so many places; received = taken + dropped + waiting, always.

    Attributes:
        received, taken, dropped: how many items have come in, gone out, and been lost for want of a place.
    """

    def __init__(self, places: int):
        assert places > 0, "a queue has a place"
        self.places = places
        self.waiting: deque[Item] = deque()
        self.received = self.taken = self.dropped = 0

    def __len__(self) -> int:
        return len(self.waiting)

    def put(self, item: Item) -> None:
        """Adds an item, in place of the oldest one where there is no room."""
        if len(self.waiting) == self.places:
            self.drop()
        self.waiting.append(item)
        self.received += 1

    def take(self) -> Item:
        """The oldest item."""
        self.taken += 1
        return self.waiting.popleft()

    def drop(self) -> None:
        """Loses the oldest item."""
        self.dropped += 1
        self.waiting.popleft()
