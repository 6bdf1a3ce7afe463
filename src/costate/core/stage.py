"""A stage: consecutive layers that are trained as one unit, with the interface behind them, and what it remembers.

A memory is the joint between the forward pass on a batch and the backward pass on it, which may be batches apart.

    x   state at the stage's input, cut from the graph of the stage before     (batch, *shape)
    h   state at its output
    g   gradient of the batch's mean loss at h, as the interface answers it
    θ   weights of the forward pass; θ′ those of today, which have stepped since
"""

from abc import ABC, abstractmethod
from typing import NamedTuple, TypeAlias, final

import torch
from torch import Tensor, nn

from costate.core.block import Block
from costate.core.copies import CopiedBlocks, Likeness
from costate.core.interface import Interface, Learning
from costate.core.post import Passage, Reply
from costate.core.types import Input, Labels, Shape, State


class Flight(NamedTuple):
    """What a stage remembers of a batch that it has still to update on; whatever a memory does not need is None.

    Attributes:
        first: whether the stage is the network's first, so that nobody wants a gradient at x.
        y, x, h: with a row for each sample; h has its graph, which no checkpoint can hold.
        weights: θ by their names.
        origin: of the latest batch, what its θ was predicted from: the weights as they were.
    """

    first: bool
    y: Labels
    x: Input | None = None
    h: State | None = None
    weights: dict[str, Tensor] | None = None
    origin: dict[str, Tensor] | None = None


Kept: TypeAlias = tuple[State, Flight]
"""h, and what to remember."""


class Memory(ABC):
    """Keeps what the backward pass will need, and no more."""

    @abstractmethod
    def keep(self, block: Block, x: Input, y: Labels, first: bool, previous: Flight | None = None) -> Kept:
        """The forward pass; `previous` is what is remembered of the batch before."""

    def recall(self, block: Block, flight: Flight, returned: State | None) -> tuple[Input, State]:
        """x and h with the graph between them, for one backward pass; x holds the state when that is over.

        `returned` is h as the stage behind has it, if the method's post brings it.
        """
        assert flight.x is not None, "kept"
        assert flight.h is not None, "kept"
        return flight.x, flight.h


def leaf(x: Input, first: bool) -> Input:
    """x, cut from the graph of the stage before."""
    return x.detach().requires_grad_(not first)


@final
class Graph(Memory):
    """Keeps autograd's graph, for a backward pass before the weights step."""

    def keep(self, block: Block, x: Input, y: Labels, first: bool, previous: Flight | None = None) -> Kept:
        x = leaf(x, first)
        h = block(x)
        return h, Flight(first, y, x, h)


class Stage(nn.Module):
    """The three operations of a stage on batch n; gradients add up in `.grad`, whoever plays the schedule steps.

    Args:
        interface: what stands behind the block; for the last stage, the loss.
        inlet: shape of a sample's state at the stage's input.
        memory: what is remembered of a batch until its update.
        likeness: what the stage sends of itself to others that hold copies.
        front: copies of the stages in front, by which it makes its input itself.

    Attributes:
        flights: the batches to update on, and what is remembered of them.
        lessons: state and labels of the batches that the interface has still to learn from.
    """

    def __init__(
        self,
        block: Block,
        interface: Interface,
        inlet: Shape,
        memory: Memory,
        likeness: Likeness | None = None,
        front: CopiedBlocks | None = None,
    ):
        super().__init__()
        self.block, self.interface, self.inlet, self.memory = block, interface, inlet, memory
        self.likeness, self.front = likeness, front
        self.flights: dict[int, Flight] = {}
        self.lessons: dict[int, tuple[Tensor, Tensor]] = {}

    def forward(self, x: Input) -> State:
        # Not by a call, which may be a compiled one: that is for training, and looking is too short to pay for another.
        return self.block.forward(x)

    @torch.no_grad()
    def guess(self, samples: Input) -> State:
        """The state at the stage's input, as copies of the stages in front make it."""
        assert self.front is not None, "asked of stages that have them"
        return self.front(samples)

    def send(self, n: int, x: Input, y: Labels, first: bool) -> State:
        """forward: h = block(x); nobody before the first stage wants a gradient."""
        previous = self.flights.get(n - 1)
        h, self.flights[n] = self.memory.keep(self.block, x, y, first, previous)
        if previous is not None:
            self.flights[n - 1] = previous._replace(origin=None)
        # Under autocast h may be of another precision; states travel in that of the samples.
        return h.detach().to(x.dtype)

    def update(self, n: int, reply: Reply | None, exact: bool = False, tune: bool = False) -> Passage | None:
        """update: the backward pass under the interface's g, or the exact one; None where nobody is in front.

        Args:
            reply: to the h that was sent.
            exact: whether the stage trains under what the reply says, and the interface learns from it.
            tune: whether the stage's likeness learns from this batch.
        """
        flight = self.flights.pop(n)
        arrived, returned = reply or (None, None)
        x, h = self.memory.recall(self.block, flight, returned)
        g: State | None
        if exact and arrived is not None:
            self.interface.study(h.detach(), flight.y)
            root, g = h, arrived
        else:
            root, g = self.interface.root(h, flight.y, arrived, n)
        losses = [self.block.penalty()]
        if tune and self.likeness is not None and self.likeness.coarser(self.block):
            losses.append(self.likeness.fit(self.block, x, h))
        # A first stage of layers that learn nothing has no graph.
        ends = [(root, g)] if root.requires_grad else []
        ends += [(loss, torch.ones_like(loss)) for loss in losses if loss is not None]
        if ends:
            roots, gradients = zip(*ends, strict=True)
            torch.autograd.backward(roots, gradients)
        if isinstance(self.interface, Learning):
            self.lessons[n] = h.detach(), flight.y
        if x.grad is None:
            return None
        return Passage(x.detach(), x.grad, h.detach(), flight.y, arrived, self.interface.said)

    def learn(self, n: int, target: State) -> None:
        """learn: the interface's regression on the gradient that arrived for batch n."""
        if isinstance(self.interface, Learning):
            self.interface.fit(*self.lessons.pop(n), target).backward()
