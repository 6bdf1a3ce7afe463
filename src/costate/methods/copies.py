"""Copies of stages, which go now and then to those that ask them.

    batch    0   1   2   3   4   5   6   7   8   9  10  11        refresh 4, travel 1
    made                 A               B               C         behind the batch's step
    in use   .   .   .   .   .   A   A   A   A   B   B   B         . : of the weights that training begins with

A copy has `travel` batches for its way, whoever plays the schedule, so that nobody waits for it.
"""

from typing import NamedTuple


class Copies(NamedTuple):
    """What is sent, and when.

    Attributes:
        refresh: batches from one copy to the next.
        travel: batches that pass before a copy is in use; below `refresh`, so that one is under way at a time.
        tune: batches from one step of tuning a stage's copy to the next; 0: none.
    """

    refresh: int
    travel: int
    tune: int

    def made(self, n: int) -> bool:
        """Whether copies are made behind batch n."""
        return (n + 1) % self.refresh == 0

    def taken(self, n: int) -> bool:
        """Whether copies are taken in front of batch n."""
        return n > self.travel and self.made(n - 1 - self.travel)

    def tuned(self, n: int) -> bool:
        """Whether stages tune their copies on batch n."""
        return self.tune > 0 and n % self.tune == 0
