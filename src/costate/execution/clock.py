"""What a process does with its time, and how old what it uses is."""

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, final

SPANS = 200_000
"""Spans that a timeline remembers of each rank, the latest ones: some 20 MB."""

WAITS = ("wait for state", "wait for gradient", "wait for room", "wait for copy", "average")

BINS = ("0", "1", "2-3", "4-7", "8-15", "16-31", "32+")


class Span(NamedTuple):
    """A piece of work on a batch: what, which batch, and when (seconds since 1970, duration)."""

    name: str
    batch: int
    start: float
    seconds: float


@final
class Clock:
    """Adds up the seconds of each kind of work, and says how well a rank is kept busy; validation does not count.

    Args:
        keep: how many of the latest spans to remember one by one.
    """

    def __init__(self, keep: int = 0) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.spans: deque[Span] = deque(maxlen=keep)
        self._zero = time.time() - time.perf_counter()
        self._since: float | None = None
        self._playing = self._stalled = 0.0
        self._batches = self._queue = 0

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

    def begin(self) -> None:
        """A batch begins."""
        now = time.perf_counter()
        self._playing += now - self._since if self._since is not None else 0.0
        self._since = now

    def end(self, queue: int, more: bool) -> None:
        """A batch has ended: so many of its kind wait for their gradients, and another one follows at once or not."""
        self._batches += 1
        self._queue += queue
        if not more:
            self.begin()
            self._since = None

    def measure(self) -> dict[str, float]:
        """Since last asked: updates a second, busy share of the time, stall in ms a batch, and queue in batches."""
        stalled = sum(self.seconds[name] for name in WAITS)
        stall, self._stalled = stalled - self._stalled, stalled
        if self._since is not None:
            self.begin()
        numbers = {
            "updates_per_second": self._batches / self._playing if self._playing else 0.0,
            "busy": 1 - stall / self._playing if self._playing else 1.0,
            "stall_ms": 1e3 * stall / max(self._batches, 1),
            "queue": self._queue / max(self._batches, 1),
        }
        self._playing, self._batches, self._queue = 0.0, 0, 0
        return numbers


@final
class Histogram:
    """How often each staleness has occurred, in bins that double: 0, 1, 2-3, 4-7, ...

    Attributes:
        counts: of each of BINS.
        most: the largest number so far.
    """

    def __init__(self) -> None:
        self.counts = [0] * len(BINS)
        self.total = self.most = 0

    def add(self, number: int) -> None:
        assert number >= 0, "nothing is younger than the newest"
        self.counts[min(number.bit_length(), len(BINS) - 1)] += 1
        self.total += number
        self.most = max(self.most, number)

    def rows(self, role: str) -> dict[str, float]:
        """The mean, the most, and the share of each bin that has one, as they are logged."""
        whole = max(1, sum(self.counts))
        shares = {f"_{name}": count / whole for name, count in zip(BINS, self.counts, strict=True) if count}
        found = {"": self.total / whole, "_most": float(self.most), **shares}
        return {f"{role}/staleness{name}": value for name, value in found.items()}
