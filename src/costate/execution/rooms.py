"""Room for the states to come, so that a far link carries several in a round trip; the same numbers on all ranks.

    batch           0      1      2      3      4      5        window 2, six batches
    then room for   1 2    2 3    3 4    4 5    5      .
    asked at 1      1 2    2      .                             all stop behind 2, and nothing is under way

Word that there is room takes as long as a state. Room is made before anybody knows of its batch, so for as many rows as
there are now: a smaller batch travels with rows that nobody reads.
"""

from collections import deque
from typing import final


@final
class Rooms:
    """Says how many states to make room for, and behind which batch to stop.

    Args:
        window: states that there may be room for.

    Attributes:
        stopping: whether all stop behind the latest batch.
    """

    def __init__(self, window: int):
        self.window, self.stopping = window, False
        self._rows: deque[int] = deque()
        self._last: int | None = None

    def take(self, n: int, rows: int) -> int:
        """With how many rows the state of batch n travels, which has so many.

        Raises:
            ValueError: there is room for fewer.
        """
        room = self._rows.popleft() if self._rows else rows
        if rows > room:
            raise ValueError(f"Batch {n} has {rows} rows, one before it {room}: batches of an epoch do not grow.")
        return room

    def make(self, n: int, rows: int, ahead: int, asked: bool) -> int:
        """For how many states more to make room behind batch n.

        Args:
            ahead: batches that follow.
            asked: whether a rank was asked to stop, which all know from this batch on.
        """
        if asked and self._last is None:
            self._last = n + min(self.window - 1, ahead)
        self.stopping = self._last is not None and n >= self._last
        known = ahead if self._last is None else max(0, min(ahead, self._last - n))
        more = max(0, min(self.window, known) - len(self._rows))
        self._rows.extend([rows] * more)
        return more
