"""Prolongation: n layers become 2n layers over the same time interval, with half the time step.

    θ_j   weights of layer j, a row of a stack: the value of a function of time θ(t)
    t_j   its time, the centre (j + ½) h of the layer's interval

A weight belongs to the centre of its interval: then the mean of θ over each interval stays what it was, up to second
differences, whereas a weight at the left end would come to act h/4 later. The centres of the halves are t_j ∓ h/4.

What is prolonged is one function of time, the stacks of all blocks of a network one behind the other: so prolonging
commutes with cutting.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from costate.architectures.block import Block

Rule = Callable[[Tensor], Tensor]


def linear(θ: Float[Tensor, "n ..."]) -> Float[Tensor, "2*n ..."]:
    """θ(t_j ∓ h/4) = ¾ θ_j + ¼ θ_{j∓1}, constant beyond the first and the last t_j (Haber & Ruthotto, 2017)."""
    before, behind = torch.cat([θ[:1], θ[:-1]]), torch.cat([θ[1:], θ[-1:]])
    return torch.stack([torch.lerp(θ, before, 0.25), torch.lerp(θ, behind, 0.25)], dim=1).flatten(0, 1)


def copy(θ: Float[Tensor, "n ..."]) -> Float[Tensor, "2*n ..."]:
    """Each layer twice: θ is constant on each interval."""
    return θ.repeat_interleave(2, dim=0)


RULES: dict[str, Rule] = {"linear": linear, "copy": copy}


@torch.no_grad()
def together(rule: Rule, stacks: Sequence[Float[Tensor, "_ ..."]]) -> list[Tensor]:
    """The rule on one function of time, of which each block has a stack; the blocks' stacks of it."""
    whole = rule(torch.cat([stack.detach() for stack in stacks]))
    return [part.clone() for part in whole.split([2 * len(stack) for stack in stacks])]


def prolong(rule: Rule, blocks: Sequence[Block]) -> None:
    """Doubles the layers of a network that is cut into these blocks, in place; optimizers keep their parameters.

    Raises:
        ValueError: if layers are no time steps.
    """
    rows = [together(rule, stacks) for stacks in zip(*(block.stacks() for block in blocks), strict=True)]
    for block, own in zip(blocks, zip(*rows, strict=True), strict=True):
        block.refine(own)
