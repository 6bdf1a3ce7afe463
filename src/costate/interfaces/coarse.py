"""A coarse copy of what is behind a boundary, asked for the gradient there.

    Φ̄_j  coarse copy of stage j (`interfaces.copies`), of the last one with the head
    ĝ = ∂ℓ(Φ̄_{K−1}(... Φ̄_{k+1}(h)), y)/∂h              at the boundary behind stage k

No target is a guess of somebody else's, so no error adds up from boundary to boundary. With δ = 0 nothing is learnt,
and at a fixed factor the error of ĝ falls like the time step; δ is learnt where the fine stage is at hand. "Predict
globally, correct locally" (Parpas & Muir, 1902.02542), with the coarse network for a synthesizer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from costate.core.block import Block, Coarsening
from costate.core.interface import Interface
from costate.core.likeness import CopiedBlocks
from costate.core.tasks import Task
from costate.core.types import Labels, State


class Coarse(Interface):
    """Answers the gradient of the loss behind copies, whose weights come up the boundaries now and then.

    Args:
        behind: the blocks of the stages behind, which are copied.
        rule: how coarse.

    Raises:
        ValueError: their layers are no time steps, and the factor is not 1.
    """

    def __init__(self, behind: Sequence[Block], task: Task, rule: Coarsening):
        super().__init__()
        self.task = task
        self.copies = CopiedBlocks(behind, rule)

    def gradient(self, h: State, y: Labels, arrived: Tensor | None, n: int) -> Tensor:
        end = h.detach().requires_grad_()
        return torch.autograd.grad(self.task.loss(self.copies(end), y), end)[0]
