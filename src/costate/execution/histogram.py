"""How often each staleness has occurred, in bins that double: 0, 1, 2-3, 4-7, ..."""

from typing import final

BINS = ("0", "1", "2-3", "4-7", "8-15", "16-31", "32+")


@final
class Histogram:
    """Counts of whole numbers that are not negative.

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

    @property
    def mean(self) -> float:
        return self.total / max(1, sum(self.counts))

    def shares(self) -> dict[str, float]:
        """Of each bin that has one, by the bin's name."""
        whole = max(1, sum(self.counts))
        return {name: count / whole for name, count in zip(BINS, self.counts, strict=True) if count}
