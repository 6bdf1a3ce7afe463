"""Which variables belong to which worker."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import final


@final
class Blocks:
    """x = (x_1, ..., x_p, s): worker l owns x_l and s.

    Args:
        sizes: of x_1, ..., x_p.
        shared: size of s, the variables that every worker owns.
    """

    def __init__(self, sizes: Sequence[int], shared: int = 0):
        ends = list(accumulate(sizes, initial=0))
        self.size = ends[-1] + shared
        self._blocks = [slice(start, end) for start, end in pairwise(ends)]
        self._shared = slice(ends[-1], self.size)

    def __len__(self) -> int:
        return len(self._blocks)

    def own(self, l: int) -> list[slice]:
        """What worker l minimises over."""
        return [part for part in (self._blocks[l], self._shared) if part.stop > part.start]

    def others(self, l: int) -> list[tuple[int, slice]]:
        """The numbers of the other blocks, and where in x they are."""
        return [(k, part) for k, part in enumerate(self._blocks) if k != l and part.stop > part.start]
