"""What a process does with its time."""

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Span(NamedTuple):
    """A piece of work on a batch: what, which batch, and when (seconds since 1970, duration)."""

    name: str
    batch: int
    start: float
    seconds: float


class Clock:
    """Adds up the seconds of each kind of work.

    Args:
        keep: how many of the latest spans to remember one by one.
    """

    def __init__(self, keep: int = 0) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.spans: deque[Span] = deque(maxlen=keep)
        self._zero = time.time() - time.perf_counter()

    @contextmanager
    def span(self, name: str, batch: int) -> Iterator[None]:
        """Times what is done inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.seconds[name] += seconds
            if self.spans.maxlen:
                self.spans.append(Span(name, batch, self._zero + start, seconds))
