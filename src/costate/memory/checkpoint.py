"""Gradient checkpointing: the graph of a stage holds its input alone, and the forward pass is run again for it."""

from contextlib import nullcontext
from typing import final

from torch.utils.checkpoint import checkpoint

from costate.architectures.block import Block
from costate.architectures.chain import still
from costate.memory.base import Flight, Memory, leaf
from costate.types import Input, Labels, State


@final
class Checkpoint(Memory):
    """Keeps x, for a backward pass before the weights step; random layers draw the same a second time, and running
    statistics stand still (Chen et al., 2016, Training deep nets with sublinear memory cost, 1604.06174).
    """

    def keep(
        self, block: Block, x: Input, y: Labels, first: bool, previous: Flight | None = None
    ) -> tuple[State, Flight]:
        x = leaf(x, first)
        h = checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), still(block)))
        return h, Flight(first, y, x, h)

    def recall(self, block: Block, flight: Flight, returned: State | None) -> tuple[Input, State]:
        assert flight.x is not None, "kept"
        assert flight.h is not None, "kept"
        return flight.x, flight.h
