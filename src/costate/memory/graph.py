"""The ordinary memory of a backward pass."""

from typing import final

from costate.architectures.block import Block
from costate.memory.base import Flight, Memory, leaf
from costate.types import Input, Labels, State


@final
class Graph(Memory):
    """Keeps autograd's graph, for a backward pass before the weights step."""

    def keep(
        self, block: Block, x: Input, y: Labels, first: bool, previous: Flight | None = None
    ) -> tuple[State, Flight]:
        x = leaf(x, first)
        h = block(x)
        return h, Flight(first, y, x, h)

    def recall(self, block: Block, flight: Flight, returned: State | None) -> tuple[Input, State]:
        assert flight.x is not None, "kept"
        assert flight.h is not None, "kept"
        return flight.x, flight.h
