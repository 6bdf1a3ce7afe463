"""Copies of stages, which go up to the interfaces of all boundaries in front of them now and then.

    update     1   2   3   4   5   6   7   8   9        refresh 3
    made               A           B           C
    in use     .   .   .   .   .   A   A   A   B         . : those of the start

A copy is made behind the step of every `refresh`-th batch, and taken in front of the batch behind which the next one is
made: it has refresh − 1 batches to travel, whoever plays the schedule, and nobody waits for it. With refresh 1 it is
of the very weights that have just stepped.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from costate.architectures.block import Block


class Copies(NamedTuple):
    """What is sent, and when.

    Attributes:
        refresh: batches from one copy to the next.
        of: the numbers of a block that its copy consists of, in one vector.
    """

    refresh: int
    of: Callable[[Block], Tensor]

    def due(self, n: int) -> bool:
        """Whether a copy is taken in front of batch n, and the next one made behind it."""
        return (n + 1) % self.refresh == 0
