"""Predicted weights: by the time that a late gradient arrives, the weights have stepped some times more.

    θ̂ = θ + τ (θ − θ₋)        θ₋: the weights one batch ago; τ: batches until the gradient is used

The forward pass runs under θ̂, so that its gradient belongs to the weights that it will step: linear weight
prediction, Kosson et al. (2021), Pipelined backpropagation at scale (2003.11666).
"""

import torch
from torch import Tensor

from costate.architectures.block import Block
from costate.memory.base import Flight

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
