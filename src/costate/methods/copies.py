"""Copies of stages, which go up to the interfaces of all boundaries in front of them now and then.

    batch     0   1   2   3   4   5   6   7   8   9  10        refresh 8, travel 1
    made          A       B               C                    behind the batch's step
    in use    .   .   .   A   A   B   B   B   B   C   C        . : those of the start

A copy has `travel` batches for its way, whoever plays the schedule, so that nobody waits for it. While few batches have
been, weights change fast: the first copies are made behind 1, 2, 4, 8, ... batches.
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
        done = n + 1
        early = self.travel < done < self.refresh - self.travel and done & (done - 1) == 0
        return early or done % self.refresh == 0

    def taken(self, n: int) -> bool:
        """Whether copies are taken in front of batch n."""
        return n > self.travel and self.made(n - 1 - self.travel)

    def tuned(self, n: int) -> bool:
        """Whether stages tune their copies on batch n."""
        return self.tune > 0 and n % self.tune == 0
