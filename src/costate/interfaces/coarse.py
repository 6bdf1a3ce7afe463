"""A coarse copy of what is behind a boundary, asked for the gradient there.

    Φ_j  stage j, with weights θ                        x -> h
    Φ̄_j  its copy: one layer for `factor` of its own, of weights θ̄ + δ, and the head as it is
    θ̄    means of θ over the layers that become one (`restrict`)
    ĝ = ∂ℓ(Φ̄_{K−1}(... Φ̄_{k+1}(h)), y)/∂h              at the boundary behind stage k
    fit = mean ‖Φ̄_j(x) − h‖² / mean ‖h − mean h‖²        by which stage j tunes δ, 0 at first

No target is a guess of somebody else's, so no error adds up from boundary to boundary. With δ = 0 nothing is learnt,
and at a fixed factor the error of ĝ falls like the time step; δ is learnt where the fine stage is at hand. "Predict
globally, correct locally" (Parpas & Muir, 1902.02542), with the coarse network for a synthesizer.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from costate.architectures.block import Block
from costate.architectures.restrict import restrict
from costate.interfaces.base import Interface
from costate.tasks import Task
from costate.types import Input, Labels, State


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

    def gradient(self, h: State, y: Labels, arrived: Tensor | None, n: int) -> Tensor:
        state = end = h.detach().requires_grad_()
        for copy in self.copies:
            state = copy(state)
        return torch.autograd.grad(self.task.loss(state, y), end)[0]

    @torch.no_grad()
    def take(self, i: int, numbers: Float[Tensor, " numbers"]) -> None:
        """Gives the copy of the i-th block behind the weights that have come up, those of `Likeness.numbers`."""
        parameters = list(self.copies[i].parameters())
        parts = numbers.split([p.numel() for p in parameters])
        for p, part in zip(parameters, parts, strict=True):
            p.copy_(part.view_as(p))

    def room(self, i: int) -> Float[Tensor, " numbers"]:
        """A place for what `take` is to be given."""
        parameters = list(self.copies[i].parameters())
        return parameters[0].new_empty(sum(p.numel() for p in parameters))

    def deepen(self, i: int, block: Block) -> None:
        """Gives the copy of the i-th block behind as many layers as one of this block has."""
        _deepen(self.copies[i], block, self.factor)


class Likeness(nn.Module):
    """What a stage sends of itself: the weights of its coarse copy.

    Args:
        block: the stage's own.
        factor: layers that become one.

    Attributes:
        delta: a coarse block, whose parameters are δ.
    """

    def __init__(self, block: Block, factor: int):
        super().__init__()
        self.factor = factor
        self.delta = block.coarse(factor)
        tuned = {id(stack) for stack in self.delta.stacks()} if factor > 1 else set()
        for p in self.delta.parameters():
            p.data.zero_()
            p.requires_grad_(id(p) in tuned)

    def weights(self, block: Block) -> dict[str, Tensor]:
        """θ̄ + δ, by the names of the parameters."""
        coarser = block.layers > self.delta.layers
        stacks = {id(stack) for stack in block.stacks()} if coarser else set()
        found = {}
        for (name, p), δ in zip(block.named_parameters(), self.delta.parameters(), strict=True):
            θ = restrict(p.detach(), self.delta.layers) if id(p) in stacks else p.detach()
            found[name] = θ + δ if δ.requires_grad else θ
        return found

    @torch.no_grad()
    def numbers(self, block: Block) -> Float[Tensor, " numbers"]:
        """The weights in one vector: what goes up."""
        return torch.cat([weight.reshape(-1) for weight in self.weights(block).values()])

    def fit(self, block: Block, x: Input, h: State) -> Float[Tensor, ""]:
        """By how much the copy misses what the block has made of x, as a share of the variance of h."""
        missed = functional_call(self.delta, self.weights(block), (x.detach(),)) - h.detach()
        spread = (h.detach() - h.detach().mean(dim=0)).square().mean()
        return missed.square().mean() / spread.clamp_min(torch.finfo(h.dtype).tiny)

    def deepen(self, block: Block) -> None:
        """Begins again, for a block of another depth."""
        _deepen(self.delta, block, self.factor)
        for p in self.delta.parameters():
            p.data.zero_()


def _deepen(copy: nn.Module, block: Block, factor: int) -> None:
    layers = -(-block.layers // factor)
    assert isinstance(copy, Block), "made so"
    if copy.layers != layers:
        copy.refine([stack.new_empty(layers, *stack.shape[1:]) for stack in copy.stacks()])
