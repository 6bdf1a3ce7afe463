"""Stashed weights: a late backward pass is that of its own forward pass.

    h = block(x; θ)        g_θ = (∂h/∂θ)ᵀ g,  g_x = (∂h/∂x)ᵀ g        at θ, whatever the weights θ′ are by then

Autograd's graph refers to the weights themselves, and raises when they have stepped, or mixes old and new ones where
what it has saved is made of them (an antisymmetric net's K − Kᵀ). So the forward pass runs with copies.
"""

from typing import final

from torch import Tensor
from torch.func import functional_call

from costate.architectures.block import Block
from costate.memory.base import Flight, Memory, leaf
from costate.memory.prediction import predicted
from costate.types import Input, Labels, State


@final
class Stash(Memory):
    """Keeps the graph of a forward pass with copies of the weights (Huo et al., 2018, 1804.10574).

    Args:
        steps: that the copies are ahead of the weights, by prediction.
    """

    def __init__(self, steps: int = 0):
        self.steps = steps

    def keep(
        self, block: Block, x: Input, y: Labels, first: bool, previous: Flight | None = None
    ) -> tuple[State, Flight]:
        weights, origin = predicted(block, previous, self.steps)
        x = leaf(x, first)
        h = functional_call(block, weights, (x,))
        return h, Flight(first, y, x, h, weights, origin)

    def recall(self, block: Block, flight: Flight, returned: State | None) -> tuple[Input, State]:
        assert flight.x is not None, "kept"
        if flight.h is not None:
            return flight.x, flight.h
        # Out of a checkpoint: θ + θ′ − θ′ has the value of the first and the gradient of the second.
        assert flight.weights is not None, "kept"
        weights = {name: flight.weights[name] + (p - p.detach()) for name, p in block.named_parameters()}
        x = leaf(flight.x, flight.first)
        return x, functional_call(block, {**weights, **spare_statistics(block)}, (x,))


def spare_statistics(block: Block) -> dict[str, Tensor]:
    """Copies of the block's buffers: a second forward pass on a batch is not to move running statistics again."""
    return {name: buffer.clone() for name, buffer in block.named_buffers()}
