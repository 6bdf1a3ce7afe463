"""Copies of stages, which go now and then to those that ask them.

    batch    0   1   2   3   4   5   6   7   8   9  10  11        refresh 4, travel 1
    made                 A               B               C         behind the batch's step
    in use   .   .   .   .   .   A   A   A   A   B   B   B         . : of the weights that training begins with

A copy has `travel` batches for its way, whoever plays the schedule, so that nobody waits for it. It is to stand still
for long: stages that train against a copy which follows them at every step chase each other, as in Q-learning without
a target network (Mnih et al., 2015).
"""

from typing import NamedTuple


class Copies(NamedTuple):
    """What is sent, and when.

    Attributes:
        refresh: batches from one copy to the next; below 1 a share of all batches of a run, whose length must be told.
        travel: batches that pass before a copy is in use, but for one less than `refresh`: one is under way at a time.
        tune: batches from one step of tuning a stage's copy to the next; 0: none.
    """

    refresh: float
    travel: int
    tune: int

    def over(self, batches: int) -> "Copies":
        """For a run of so many batches."""
        return self if self.refresh >= 1 else self._replace(refresh=max(1, round(self.refresh * batches)))

    def made(self, n: int) -> bool:
        """Whether copies are made behind batch n."""
        assert self.refresh >= 1, "over a run"
        return (n + 1) % self.refresh == 0

    def taken(self, n: int) -> bool:
        """Whether copies are taken in front of batch n."""
        way = min(self.travel, self.refresh - 1)
        return n > way and self.made(n - 1 - int(way))

    def tuned(self, n: int) -> bool:
        """Whether stages tune their copies on batch n."""
        return self.tune > 0 and n % self.tune == 0
