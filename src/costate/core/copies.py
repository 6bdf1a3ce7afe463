"""Coarse copies of stages: what is sent of a stage, what holds it elsewhere, and when copies go there.

Φ_j  stage j, with weights θ                        x -> h
Φ̄_j  its copy: one layer for `factor` of its own, of weights θ̄ + δ; opening and head as they are
θ̄    means of θ over the layers that become one (`restrict`)
fit = mean ‖Φ̄_j(x) − h‖² / mean ‖h − mean h‖²        by which stage j tunes δ, 0 at first

    batch    0   1   2   3   4   5   6   7   8   9  10  11        refresh 4, travel 1
    made                 A               B               C         behind the batch's step
    in use   .   .   .   .   .   A   A   A   A   B   B   B         . : of the weights that training begins with

A copy has `travel` batches for its way, whoever plays the schedule, so that nobody waits for it. It is to stand still
for long: stages that train against a copy which follows them at every step chase each other, as in Q-learning without
a target network (Mnih et al., 2015).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from costate.core.block import Block, Coarsening, restrict
from costate.core.joint import Gather, joint_moments
from costate.core.types import Input, State

Kind = tuple[int, bool]
"""What is copied: a stage, of that number, and whether all of its layers are."""
EXACT = Coarsening(1)


class Copies(NamedTuple):
    """What is sent, and when.

    Attributes:
        refresh: batches from one copy to the next; below 1 a share of all batches of a run, whose length must be told.
        travel: batches that pass before a copy is in use, but for one less than `refresh`: one is under way at a time.
        tune: batches from one step of tuning a stage's copy to the next; 0: none.
        near: of how many stages right behind all layers are copied.
    """

    refresh: float
    travel: int
    tune: int
    near: int = 0

    def over(self, batches: int) -> "Copies":
        """For a run of so many batches."""
        return self if self.refresh >= 1 else self._replace(refresh=max(1, round(self.refresh * batches)))

    def made(self, n: int) -> bool:
        """Whether copies are made behind batch n."""
        assert self.refresh >= 1, "over a run"
        return (n + 1) % self.refresh == 0

    def taken(self, n: int) -> bool:
        """Whether copies are taken in front of batch n."""
        way = min(self.travel, self.refresh - 1)
        return n > way and self.made(n - 1 - int(way))

    def tuned(self, n: int) -> bool:
        """Whether stages tune their copies on batch n."""
        return self.tune > 0 and n % self.tune == 0


class CopiedBlocks(nn.Module):
    """Φ̄ of consecutive stages, held by another one, the `near` first of them as they are; nothing here is trained.

    Raises:
        ValueError: their layers are no time steps, and the factor is not 1.
    """

    nothing: Tensor

    def __init__(self, blocks: Sequence[Block], rule: Coarsening, near: int = 0):
        super().__init__()
        # On the device where its neighbours are: the weights of a copy that has none.
        self.register_buffer("nothing", torch.empty(0), persistent=False)
        self.rules = [EXACT if i < near else rule for i in range(len(blocks))]
        copies = (block.coarse(each) for block, each in zip(blocks, self.rules, strict=True))
        self.blocks = nn.ModuleList(copies).requires_grad_(False)
        self._join()

    def _join(self) -> None:
        blocks: Any = self.blocks
        for block, behind in pairwise(blocks):
            block.join(behind)

    def forward(self, state: Input) -> State:
        for block in self.blocks:
            state = block(state)
        return state

    def exact(self, i: int) -> bool:
        """Whether the i-th copy has all layers, and their weights as they are."""
        return self.rules[i].factor == 1

    @torch.no_grad()
    def take(self, i: int, numbers: Float[Tensor, " numbers"]) -> None:
        """Gives the i-th copy the weights that have come, those of `Likeness.numbers`."""
        parameters = list(self.blocks[i].parameters())
        parts = numbers.split([p.numel() for p in parameters])
        for p, part in zip(parameters, parts, strict=True):
            p.copy_(part.view_as(p))

    def room(self, i: int) -> Float[Tensor, " numbers"]:
        """A place for what `take` is to be given."""
        parameters: list[Tensor] = [*self.blocks[i].parameters()] or [self.nothing]
        dtype = parameters[0].dtype if self.exact(i) else torch.bfloat16
        return parameters[0].new_empty(sum(p.numel() for p in parameters), dtype=dtype)

    def deepen(self, i: int, block: Block) -> None:
        """Gives the i-th copy as many layers as a copy of this block has, and tells it that it is one."""
        copy: Any = self.blocks[i]
        copy.follow(block, self.rules[i])
        self._join()


class Likeness(nn.Module):
    """What is sent of a stage: the weights of its coarse copy; the parameters of `delta`, a coarse block, are δ.

    Attributes:
        gather: None if this process has all of a batch; with it, the variance is that of the joint batch.
    """

    gather: Gather | None = None
    nothing: Tensor

    def __init__(self, block: Block, rule: Coarsening):
        super().__init__()
        self.rule = rule
        self.register_buffer("nothing", torch.empty(0), persistent=False)
        self.delta = block.coarse(rule)
        tuned = {id(stack) for stack in self.delta.stacks()} if rule.factor > 1 else set()
        for p in self.delta.parameters():
            p.data.zero_()
            p.requires_grad_(id(p) in tuned)

    def coarser(self, block: Block) -> bool:
        """Whether the copy has fewer layers than the block: else there is nothing to tune."""
        return self.delta.layers < block.layers

    def weights(self, block: Block) -> dict[str, Tensor]:
        """θ̄ + δ, by the names of the parameters."""
        stacks = {id(stack) for stack in block.stacks()} if self.coarser(block) else set()
        found = {}
        for (name, p), δ in zip(block.named_parameters(), self.delta.parameters(), strict=True):
            θ = restrict(p.detach(), self.delta.layers) if id(p) in stacks else p.detach()
            found[name] = θ + δ if stacks and δ.requires_grad else θ
        return found

    @torch.no_grad()
    def numbers(self, block: Block, exact: bool) -> Float[Tensor, " numbers"]:
        """The block's exact weights in one vector, or those of its copy, an approximation anyway, in half the bytes."""
        weights = block.parameters() if exact else self.weights(block).values()
        row = torch.cat([weight.reshape(-1) for weight in weights] or [self.nothing])
        return row if exact else row.to(torch.bfloat16)

    def fit(self, block: Block, x: Input, h: State) -> Float[Tensor, ""]:
        """By how much the copy misses what the block has made of x, as a share of the variance of h."""
        missed = functional_call(self.delta, self.weights(block), (x.detach(),)) - h.detach()
        return missed.square().mean() / self._spread(h.detach()).clamp_min(torch.finfo(h.dtype).tiny)

    def _spread(self, h: State) -> Float[Tensor, ""]:
        """The variance over the batch, or over the joint one."""
        if self.gather is None:
            return (h - h.mean(dim=0)).square().mean()
        return joint_moments(h.flatten(1), self.gather)[2].mean()

    def deepen(self, block: Block) -> None:
        """Begins again, for a block of another depth."""
        self.delta.follow(block, self.rule)
        for p in self.delta.parameters():
            p.data.zero_()
