"""Copies of stages, which go now and then to those that ask them.

    batch    13  14  15  16  17  18  19  20  21  22  23        refresh 8, travel 1
    made      A       B               C               D        behind the batch's step
    in use    .   .   A   A   B   B   B   B   C   C   C        . : an earlier one

A copy has `travel` batches for its way, whoever plays the schedule, so that nobody waits for it. While few batches have
been, weights change fast: after `done` batches a copy is no older than a quarter of them, as far as it can travel.
"""

from typing import NamedTuple


class Copies(NamedTuple):
    """What is sent, and when.

    Attributes:
        refresh: batches from one copy to the next, at most.
        travel: batches that pass before a copy is in use; below `refresh`, so that one is under way at a time.
        tune: batches from one step of tuning a stage's copy to the next; 0: none.
    """

    refresh: int
    travel: int
    tune: int

    def made(self, n: int) -> bool:
        """Whether copies are made behind batch n."""
        return (n + 1) % self._every(n + 1) == 0

    def taken(self, n: int) -> bool:
        """Whether copies are taken in front of batch n."""
        return n > self.travel and self.made(n - 1 - self.travel)

    def tuned(self, n: int) -> bool:
        """Whether stages tune their copies on batch n."""
        return self.tune > 0 and n % self.tune == 0

    def _every(self, done: int) -> int:
        """A power of two that grows with the batches done, so that two copies are always more than `travel` apart."""
        quarter = 1 << max((done // 4).bit_length() - 1, self.travel.bit_length())
        return min(self.refresh, quarter)
