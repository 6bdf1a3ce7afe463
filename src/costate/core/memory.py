"""The joint between a stage's forward pass on a batch and its backward pass on it, which may be batches apart.

x   state at the stage's input, where the graph ends     (batch, *shape)
h   state at its output
θ   weights of the forward pass; θ′ those of today, which have stepped since
"""

from abc import ABC, abstractmethod
from typing import NamedTuple, TypeAlias, final

from torch import Tensor

from costate.core.block import Block
from costate.core.types import Input, Labels, State


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

        Args:
            returned: h as the stage behind has it, if the method's post brings it.
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
