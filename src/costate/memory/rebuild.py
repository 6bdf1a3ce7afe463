"""Rebuilt states: neither activations nor weights are kept.

    h = block(x; θ)        x̃ = block⁻¹(h̃; θ′)        g_θ, g_x at x̃ and today's weights θ′

A block that begins with what cannot be run backwards keeps x, and is run once more as far as that goes.

h̃ comes back with the gradient from the stage behind, which has rebuilt it as its own x̃.
"""

from typing import final

import torch

from costate.architectures.block import Block
from costate.architectures.integrators import ONE_WAY
from costate.memory.base import Flight, Memory, leaf
from costate.types import Input, Labels, State


@final
class Rebuild(Memory):
    """Keeps the inputs of stages that open, the network's first one among them, and nothing of the others
    (PETRA: Rivaud et al., 2025, 2406.02052).

    Raises:
        ValueError: the block cannot run backwards.
    """

    def __init__(self, block: Block):
        if not block.reversible:
            raise ValueError(f"method=petra rebuilds a stage's input from its output, and {ONE_WAY}")

    @torch.no_grad()
    def keep(
        self, block: Block, x: Input, y: Labels, first: bool, previous: Flight | None = None
    ) -> tuple[State, Flight]:
        h = block(x)
        if h.element_size() < 4:
            raise ValueError(
                "method=petra rebuilds states from their last digits, of which half precision has too few: choose "
                "trainer.precision=32-true or bf16-mixed."
            )
        return h, Flight(first, y, x.detach() if first or block.opens else None)

    def recall(self, block: Block, flight: Flight, returned: State | None) -> tuple[Input, State]:
        assert returned is not None, "brought by the post"
        return block.retrace(returned, None if flight.x is None else leaf(flight.x, flight.first))
