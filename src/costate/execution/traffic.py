"""How well a rank of a pipeline is kept busy."""

import time

from costate.execution.clock import Clock

SPANS = 200_000
"""Spans that a timeline remembers of each rank, the latest ones: some 20 MB."""

WAITS = ("wait for state", "wait for gradient", "wait for room", "wait for copy", "average")


class Traffic:
    """Pace, busy share, stall and queue since they were last measured; validation does not count.

    Args:
        clock: whose waits count as stalls.
    """

    def __init__(self, clock: Clock):
        self.clock = clock
        self._since: float | None = None
        self._seconds = self._queue = 0.0
        self._batches = 0
        self._stalled = 0.0

    def begin(self) -> None:
        """A batch begins."""
        now = time.perf_counter()
        self._seconds += now - self._since if self._since is not None else 0.0
        self._since = now

    def end(self, queue: int, more: bool) -> None:
        """A batch has ended: so many of its kind wait for their gradients, and another one follows at once or not."""
        self._batches += 1
        self._queue += queue
        if not more and self._since is not None:
            self._seconds += time.perf_counter() - self._since
            self._since = None

    def measure(self) -> dict[str, float]:
        """Updates a second, busy share of the time, stall in milliseconds a batch, and queue in batches."""
        stalled = sum(self.clock.seconds[name] for name in WAITS)
        stall, self._stalled = stalled - self._stalled, stalled
        if self._since is not None:
            now = time.perf_counter()
            self._seconds, self._since = self._seconds + now - self._since, now
        numbers = {
            "updates_per_second": self._batches / self._seconds if self._seconds else 0.0,
            "busy": 1 - stall / self._seconds if self._seconds else 1.0,
            "stall_ms": 1e3 * stall / max(self._batches, 1),
            "queue": self._queue / max(self._batches, 1),
        }
        self._seconds = self._queue = 0.0
        self._batches = 0
        return numbers
