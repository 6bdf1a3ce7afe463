"""A coarse copy of what is behind a boundary, asked for the gradient there.

    Φ̄   copies of the stages behind, one layer for `factor` of theirs, with the head      (batch, *shape) -> outputs
    ĝ = ∂ℓ(Φ̄(h), y)/∂h

Nothing is learnt, so no error adds up from boundary to boundary: at a fixed factor that of ĝ falls like the time step.
"Predict globally, correct locally" (Parpas & Muir, 1902.02542), with the coarse network for a synthesizer.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.block import Block
from costate.architectures.restrict import restrict
from costate.interfaces.base import Interface
from costate.tasks import Task
from costate.types import Labels, State


class Coarse(Interface):
    """Answers the gradient of the loss behind copies, whose weights come up the boundaries now and then.

    Args:
        behind: the blocks of the stages behind, which are copied.
        factor: layers that become one.

    Raises:
        ValueError: their layers are no time steps, and the factor is not 1.
    """

    def __init__(self, behind: Sequence[Block], task: Task, factor: int):
        super().__init__()
        self.task, self.factor = task, factor
        self.copies = nn.ModuleList(block.coarse(factor) for block in behind).requires_grad_(False)

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        state = end = h.detach().requires_grad_()
        for copy in self.copies:
            state = copy(state)
        return torch.autograd.grad(self.task.loss(state, y), end)[0]

    @torch.no_grad()
    def take(self, i: int, numbers: Float[Tensor, " numbers"]) -> None:
        """Gives the copy of the i-th block behind the weights that have come up, as `copied` made them."""
        parameters = list(self.copies[i].parameters())
        parts = numbers.split([p.numel() for p in parameters])
        for p, part in zip(parameters, parts, strict=True):
            p.copy_(part.view_as(p))

    def room(self, i: int) -> Float[Tensor, " numbers"]:
        """A place for what `take` is to be given."""
        parameters = list(self.copies[i].parameters())
        return parameters[0].new_empty(sum(p.numel() for p in parameters))

    def follow(self, behind: Sequence[Block]) -> None:
        """Copies the blocks as they are now, of whatever depth."""
        for i, block in enumerate(behind):
            copy, layers = self.copies[i], _layers(block, self.factor)
            assert isinstance(copy, Block), "made so"
            if copy.layers != layers:
                copy.refine([stack.new_empty(layers, *stack.shape[1:]) for stack in copy.stacks()])
            self.take(i, copied(block, self.factor))


@torch.no_grad()
def copied(block: Block, factor: int) -> Float[Tensor, " numbers"]:
    """The weights of a block's coarse copy in one vector: what goes up."""
    layers = _layers(block, factor)
    stacks = {id(stack) for stack in block.stacks()} if layers < block.layers else set()
    return torch.cat([(restrict(p, layers) if id(p) in stacks else p).reshape(-1) for p in block.parameters()])


def _layers(block: Block, factor: int) -> int:
    return -(-block.layers // factor)
