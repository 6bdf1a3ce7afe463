"""Blocks of layers, networks that are cut into them, and other numbers of layers over the same time.

    θ_j   weights of layer j, a row of a stack: the value of a function of time θ(t) on the layer's interval
    t_j   its time, the centre (j + ½) h of the interval
    θ̄_i   mean of θ(t) over the i-th of m equal parts of the whole interval

Prolongation makes 2n layers of n, with half the time step. A weight belongs to the centre of its interval: then the
mean of θ over each interval stays what it was, up to second differences, whereas a weight at the left end would come to
act h/4 later. The centres of the halves are t_j ∓ h/4. What is prolonged is one function of time, the stacks of all
blocks of a network one behind the other: so prolonging commutes with cutting.

Restriction makes m < n layers. Means are the weights of a coarse network that predicts globally what the fine one
corrects locally (Parpas & Muir, 1902.02542; multigrid's restriction: Günther et al., 2020, 1812.04352).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

State = Float[Tensor, "batch ..."]
Rule = Callable[[Tensor], Tensor]


class Coarsening(NamedTuple):
    """How coarse a copy is.

    Attributes:
        factor: layers that become one, at most.
        step: the longest time step that these may make up, unless it is one layer's own.
    """

    factor: int
    step: float = math.inf

    def layers(self, n: int, h: float) -> int:
        """Of the copy of n layers with time step h."""
        return min(n, max(math.ceil(n / self.factor), math.ceil(n * h / self.step - 1e-9)))


class Block(nn.Module, ABC):
    """Consecutive layers; the first block of a network has its opening, the last one its head.

    What goes in and out of a block is one tensor, (batch, *shape): states of two fields are stacked on axis 1.

    Attributes:
        channels_last: whether images lie in memory pixel by pixel, all channels of one together.
        reversible: whether the layers can be run backwards.
        opens: whether there is something in front that cannot be run backwards, so that what goes in must be kept.
    """

    channels_last: bool = False
    reversible: bool
    opens: bool

    def laid(self, x: State) -> State:
        """x as the layers want it in memory, in one piece."""
        last = self.channels_last and x.ndim == 4
        return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

    @property
    @abstractmethod
    def layers(self) -> int:
        """Number of layers, which is the number of stages that the block can be cut into."""

    @abstractmethod
    def forward(self, x: State) -> State:
        """State at the end of the block, or the network's output, from the state (or the samples) at its beginning."""

    @abstractmethod
    def open(self, x: State) -> State:
        """The state in front of the first layer, from what goes into the block."""

    @abstractmethod
    def propagate(self, h: State) -> list[State]:
        """The state behind each layer, from the one in front of the first: for those who look, without the head."""

    @abstractmethod
    def retrace(self, h: State, x: State | None) -> tuple[State, State]:
        """x and h with the graph of h = block(x), of which h is known: nothing is evaluated before the backward pass.

        It rebuilds the states in between from h, under today's weights, and stores none of them. In training batch norm
        takes the statistics of the batch, as it did on the way forward, and its running ones stand still.

        Args:
            h: the state at the end of a block without a head.
            x: what went in, if the block opens or is a network's first; of others the backward pass fills x in.

        Raises:
            ValueError: if the block is not reversible.
        """

    def penalty(self) -> Float[Tensor, ""] | None:
        """What regularisation adds to the loss; None where it adds nothing."""
        return None

    @abstractmethod
    def ending(self) -> list[nn.Parameter]:
        """The parameters of the layer that gives the output; asked of a network's last block."""

    @abstractmethod
    def slice(self, start: int, end: int) -> "Block":
        """A copy of layers start, ..., end − 1."""

    @abstractmethod
    def coarser(self, rule: Coarsening) -> int:
        """Number of layers of a coarse copy.

        Raises:
            ValueError: if layers are no time steps, and more than one is to become one.
        """

    def coarse(self, rule: Coarsening) -> "Block":
        """A copy over the same time with so many layers, from boundary to boundary; the same ValueError."""
        made = deepcopy(self)
        made.follow(self, rule)
        return made

    def follow(self, block: "Block", rule: Coarsening) -> None:
        """A copy becomes as deep as one of this block is by now."""
        layers = block.coarser(rule)
        if self.layers != layers:
            # Statistics of norms, which nobody sends, begin with those of the block.
            self.refine([restrict(stack.detach(), layers) for stack in block.stacks()])
        self.stand_for(block)

    def stand_for(self, block: "Block") -> None:
        """The copy is told that the block's layers are other ones now."""

    def join(self, behind: "Block") -> None:
        """Says that a copy goes on with the next one: what lies between them is no boundary, but a state of theirs."""

    @abstractmethod
    def stacks(self) -> list[Float[Tensor, "layers ..."]]:
        """The parameters and buffers that hold a row for each layer, in a fixed order.

        Raises:
            ValueError: if layers are no time steps.
        """

    def refine(self, stacks: Sequence[Float[Tensor, "finer ..."]]) -> None:
        """Takes other stacks, of any number of layers, over the same time; parameters stay the same objects."""
        raise AssertionError("asked of blocks that have stacks")


def stacked(part: nn.Module) -> list[Tensor]:
    """What has a row for each layer, in all blocks that a module holds; nothing has where layers are no time steps."""
    found: list[Tensor] = []
    for block in part.modules():
        if isinstance(block, Block):
            with suppress(ValueError):
                found += block.stacks()
    return found


class Network(nn.Module, ABC):
    """Samples (batch, *shape) to outputs (batch, outputs); the layers are those of its block.

    A subclass turns settings into a block, and does nothing else.

    Args:
        block: all the layers.
        deepen: how a user gets more layers, for the error message.
    """

    def __init__(self, block: Block, deepen: str):
        super().__init__()
        self.block = block
        self.deepen = deepen

    @property
    def layers(self) -> int:
        """Number of layers, which is the largest number of stages."""
        return self.block.layers

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch outputs"]:
        return self.block(x)

    def cut(self, stages: int, balance: Sequence[int] | None = None) -> list[Block]:
        """Copies of consecutive layers, whose composition is the network.

        Stage k ends at layer round(layers k / stages): layers take equal times, so stages are cut at equal times. Their
        initial weights are the network's, however many stages there are.

        Args:
            balance: relative sizes of the stages, where they are not to be equal.

        Raises:
            ValueError: if stages < 1 or stages > layers, the balance has not a layer for each stage, or layers of two
                stages share parameters.
        """
        if stages < 1:
            raise ValueError(f"stages={stages} is below 1: stages=1 trains the network as a whole")
        if stages > self.layers:
            layers = "1 layer" if self.layers == 1 else f"{self.layers} layers"
            raise ValueError(f"stages={stages} is more than the {layers} of the network: lower stages or {self.deepen}")
        sizes = [1] * stages if balance is None else balance
        if len(sizes) != stages:
            raise ValueError(f"balance={list(sizes)} has {len(sizes)} sizes for stages={stages}.")
        ends = [round(self.layers * part / sum(sizes)) for part in accumulate(sizes, initial=0)]
        if any(start == end for start, end in pairwise(ends)):
            raise ValueError(f"balance={list(sizes)} leaves a stage without any of the network's {self.layers} layers.")
        blocks = [self.block.slice(start, end) for start, end in pairwise(ends)]
        if sum(p.numel() for b in blocks for p in b.parameters()) > sum(p.numel() for p in self.block.parameters()):
            raise ValueError(f"stages={stages} parts layers that share parameters: lower stages, or choose a balance.")
        return blocks


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """In evaluation mode; behind it each module inside is in the mode that it was in: users freeze norms by theirs."""
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for each, mode in modes.items():
            each.training = mode


def draws(module: nn.Module) -> bool:
    """Whether dropout makes a second pass another one: that of torch's modules, or of those with a rate `dropout`."""
    active = (each for each in module.modules() if each.training)
    rates = (each.p if isinstance(each, _DropoutNd) else getattr(each, "dropout", 0) for each in active)
    return any(isinstance(rate, float | int) and rate > 0 for rate in rates)


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


@torch.no_grad()
def restrict(θ: Float[Tensor, "n ..."], m: int) -> Float[Tensor, "m ..."]:
    """θ̄: where m divides n, means over n/m neighbours; a part that ends within a layer has its share."""
    n = len(θ)
    if n % m == 0:
        return θ.unflatten(0, (m, n // m)).mean(dim=1)
    ends = torch.arange(m + 1, dtype=θ.dtype, device=θ.device) * (n / m)
    begins = torch.arange(n, dtype=θ.dtype, device=θ.device)
    overlap = torch.minimum(ends[1:, None], begins + 1) - torch.maximum(ends[:-1, None], begins)
    # Copies are made behind a step, under the autocast that is meant for the passes.
    with torch.autocast(θ.device.type, enabled=False):
        return torch.tensordot(overlap.clamp_min(0) * (m / n), θ, dims=1)
