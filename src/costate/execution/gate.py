"""Holds a stage and the synthesizer behind it together: neither may run away from the other.

    n    number of an update, the stage's or the synthesizer's
    a    requests of the stage that have been answered
    v    the newest message that the synthesizer has learnt from
    L    lag, by which it learns late in any case
    S    max_staleness, by which either may be further away; 0 is the pipeline's own order

    the stage's request n is answered when   n − 1 − v ≤ L + S
    the synthesizer's update n may begin when   n + 1 − a ≤ S

As in stale synchronous parallel training (Ho et al., 2013), a bound on the distance of the clocks bounds the age of all
that is used.
"""

from typing import final


@final
class Gate:
    """Of one boundary.

    Args:
        lag: L.
        ahead: S.
    """

    def __init__(self, lag: int, ahead: int):
        self.lag, self.ahead = lag, ahead
        self.answered: int | None = None
        self.learnt = -1

    def start(self, n: int) -> None:
        """The run begins, or goes on, with update n."""
        self.answered, self.learnt = n, max(-1, n - 1 - self.lag)

    def staleness(self, n: int) -> int:
        """Of an answer to request n, given now: the updates in front that the synthesizer knows nothing of."""
        return max(0, n - 1 - self.learnt)

    def opens(self, n: int) -> bool:
        """Whether request n may be answered."""
        return self.answered is not None and self.staleness(n) <= self.lag + self.ahead

    def due(self, n: int) -> bool:
        """Whether the synthesizer's update n may begin."""
        return self.answered is not None and n + 1 - self.answered <= self.ahead
