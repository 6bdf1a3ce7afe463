"""Stashed weights: a late backward pass is that of its own forward pass.

    h = block(x; θ)        g_θ = (∂h/∂θ)ᵀ g,  g_x = (∂h/∂x)ᵀ g        at θ, whatever the weights θ′ are by then

Autograd's graph refers to the weights themselves, and raises when they have stepped, or mixes old and new ones where
what it has saved is made of them (an antisymmetric net's K − Kᵀ). So the forward pass runs with copies.


Predicted weights: by the time that a late gradient arrives, the weights have stepped some times more.

    θ̂ = θ + τ (θ − θ₋)        θ₋: the weights one batch ago; τ: batches until the gradient is used

The forward pass runs under θ̂, so that its gradient belongs to the weights that it will step: linear weight
prediction, Kosson et al. (2021), Pipelined backpropagation at scale (2003.11666).


Features replay: inputs are kept, features are computed a second time.

h = block(x; θ)        g_θ = (∂h/∂θ)ᵀ g,  g_x = (∂h/∂x)ᵀ g        at today's weights θ′


Rebuilt states: neither activations nor weights are kept.

    h = block(x; θ)        x̃ = block⁻¹(h̃; θ′)        g_θ, g_x at x̃ and today's weights θ′

A block that begins with what cannot be run backwards keeps x, and is run once more as far as that goes.

h̃ comes back with the gradient from the stage behind, which has rebuilt it as its own x̃.


Gradient checkpointing: the graph of a stage holds its input alone, and the forward pass is run again for it."""

from contextlib import nullcontext
from typing import final

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from costate.architectures.block import Block
from costate.architectures.chain import still
from costate.architectures.integrators import ONE_WAY
from costate.core.memory import Flight, Memory, leaf
from costate.core.types import Input, Labels, State


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


Weights = dict[str, Tensor]


def predicted(block: Block, previous: Flight | None, steps: int) -> tuple[Weights, Weights | None]:
    """Copies θ̂ of the weights, through which gradients come to the weights themselves, and θ to predict from next.

    Args:
        previous: what is remembered of the batch before; without it, or with no steps, θ̂ = θ.
        steps: τ.
    """
    weights = dict(block.named_parameters())
    if steps == 0:
        return {name: p.clone() for name, p in weights.items()}, None
    origin = {name: p.detach().clone() for name, p in weights.items()}
    if previous is None or previous.origin is None:
        return {name: p.clone() for name, p in weights.items()}, origin
    before = previous.origin
    return {name: torch.add(p, origin[name] - before[name], alpha=steps) for name, p in weights.items()}, origin


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
