"""What a stage remembers between a forward and a backward pass that are apart, or that are to need less memory.

    x    state at the stage's input         θ    weights of the forward pass, h = block(x; θ)
    h    state at its output                θ′   those of the backward pass, which have stepped since
    g    gradient at h; what comes of it: g_θ = (∂h/∂θ)ᵀ g and g_x = (∂h/∂x)ᵀ g

                  keeps             g_θ, g_x are taken at
    Checkpoint    x                 x, θ        before the weights step
    Stash         x, h's graph, θ   x, θ        whatever θ′ is by then
    Replay        x                 x, θ′
    Rebuild       nothing           x̃ = block⁻¹(h̃; θ′), θ′, with h̃ as the stage behind has rebuilt it

Autograd's graph refers to the weights themselves, and raises when they have stepped, or mixes old and new ones where
what it has saved is made of them (an antisymmetric net's K − Kᵀ). So a stash's forward pass runs with copies.
"""

from contextlib import nullcontext
from typing import final

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from costate.architectures.chain import still
from costate.architectures.integrators import one_way
from costate.core.block import Block, draws
from costate.core.stage import Flight, Kept, Memory, leaf
from costate.core.types import Input, Labels, State

Weights = dict[str, Tensor]


@final
class Checkpoint(Memory):
    """Gradient checkpointing: the forward pass is run again for the backward one; random layers draw the same a second
    time, and running statistics stand still (Chen et al., 2016, Training deep nets with sublinear memory cost,
    1604.06174).
    """

    def keep(self, block: Block, x: Input, y: Labels, first: bool, previous: Flight | None = None) -> Kept:
        x = leaf(x, first)
        h = checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), still(block)))
        return h, Flight(first, y, x, h)


@final
class Stash(Memory):
    """Stashed weights: a late backward pass is that of its own forward pass (Huo et al., 2018, 1804.10574).

    Args:
        steps: that the copies are ahead of the weights, by prediction.
    """

    def __init__(self, steps: int = 0):
        self.steps = steps

    def keep(self, block: Block, x: Input, y: Labels, first: bool, previous: Flight | None = None) -> Kept:
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
        with still(block):
            return x, functional_call(block, weights, (x,))


@final
class Replay(Memory):
    """Features replay: the forward pass runs again under the weights of its update (Huo et al., 2018, 1807.04511).

    Args:
        steps: that the weights of the first forward pass are ahead, by prediction.
    """

    def __init__(self, steps: int = 0):
        self.steps = steps

    @torch.no_grad()
    def keep(self, block: Block, x: Input, y: Labels, first: bool, previous: Flight | None = None) -> Kept:
        if self.steps == 0:
            return block(x), Flight(first, y, x.detach())
        weights, origin = predicted(block, previous, self.steps)
        return functional_call(block, weights, (x,)), Flight(first, y, x.detach(), origin=origin)

    def recall(self, block: Block, flight: Flight, returned: State | None) -> tuple[Input, State]:
        assert flight.x is not None, "kept"
        x = leaf(flight.x, flight.first)
        with still(block):
            return x, block(x)


@final
class Rebuild(Memory):
    """Rebuilt states (PETRA: Rivaud et al., 2025, 2406.02052). A block that begins with what cannot be run backwards,
    and the network's first one, keep x; the block is run once more as far as that goes.

    Raises:
        ValueError: the block cannot run backwards, or would draw other random numbers on its way back.
    """

    def __init__(self, block: Block):
        if not block.reversible:
            raise ValueError(f"method=petra rebuilds a stage's input from its output, and {one_way()}")
        if draws(block):
            raise ValueError(
                "method=petra runs layers once more on its way back, and dropout would leave out others then: set "
                "dropout to 0, or choose method=delayed."
            )

    @torch.no_grad()
    def keep(self, block: Block, x: Input, y: Labels, first: bool, previous: Flight | None = None) -> Kept:
        h = block(x)
        if h.element_size() < 4:
            raise ValueError(
                "method=petra rebuilds states from their last digits, of which half precision has too few: choose "
                "trainer.precision=32-true."
            )
        return h, Flight(first, y, x.detach() if first or block.opens else None)

    def recall(self, block: Block, flight: Flight, returned: State | None) -> tuple[Input, State]:
        assert returned is not None, "brought by the post"
        return block.retrace(returned, None if flight.x is None else leaf(flight.x, flight.first))


def predicted(block: Block, previous: Flight | None, steps: int) -> tuple[Weights, Weights | None]:
    """Copies θ̂ = θ + τ (θ − θ₋) of the weights, through which gradients come to these, and θ to predict from next.

    By the time that a late gradient arrives, the weights have stepped some times more. The forward pass runs under θ̂,
    so that its gradient belongs to the weights that it will step: linear weight prediction, Kosson et al. (2021),
    Pipelined backpropagation at scale (2003.11666).

    Args:
        previous: what is remembered of the batch before, with θ₋; without it, or with no steps, θ̂ = θ.
        steps: τ, batches until the gradient is used.
    """
    weights = dict(block.named_parameters())
    origin = {name: p.detach().clone() for name, p in weights.items()} if steps else None
    if origin is None or previous is None or previous.origin is None:
        return {name: p.clone() for name, p in weights.items()}, origin
    before = previous.origin
    return {name: torch.add(p, origin[name] - before[name], alpha=steps) for name, p in weights.items()}, origin
