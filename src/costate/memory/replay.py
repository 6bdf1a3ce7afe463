"""Features replay: inputs are kept, features are computed a second time.

h = block(x; θ)        g_θ = (∂h/∂θ)ᵀ g,  g_x = (∂h/∂x)ᵀ g        at today's weights θ′
"""

from typing import final

import torch
from torch.func import functional_call

from costate.architectures.block import Block
from costate.memory.base import Flight, Memory, leaf
from costate.memory.prediction import predicted
from costate.memory.stash import spare_statistics
from costate.types import Input, Labels, State


@final
class Replay(Memory):
    """Keeps x alone; the forward pass is replayed under the weights of its update (Huo et al., 2018, 1807.04511).

    Args:
        steps: that the weights of the first forward pass are ahead, by prediction.
    """

    def __init__(self, steps: int = 0):
        self.steps = steps

    @torch.no_grad()
    def keep(
        self, block: Block, x: Input, y: Labels, first: bool, previous: Flight | None = None
    ) -> tuple[State, Flight]:
        if self.steps == 0:
            return block(x), Flight(first, y, x.detach())
        weights, origin = predicted(block, previous, self.steps)
        return functional_call(block, weights, (x,)), Flight(first, y, x.detach(), origin=origin)

    def recall(self, block: Block, flight: Flight, returned: State | None) -> tuple[Input, State]:
        assert flight.x is not None, "kept"
        x = leaf(flight.x, flight.first)
        statistics = spare_statistics(block)
        return x, functional_call(block, statistics, (x,)) if statistics else block(x)
