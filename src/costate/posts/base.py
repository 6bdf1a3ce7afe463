"""The joint between the update of a stage and the interface in front of it.

    x   state at the stage's input            (batch, *shape)
    g   gradient of the batch's mean loss     (batch, *shape), at x
    h   state at the stage's output; for the last stage the network's
    y   labels of the batch

Rows of letters are samples, and what is read from them is on the scale of the mean loss, as g is: so they can be dealt
out to replicas, and put together again.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from costate.core.types import Input, Labels, State

Letter = tuple[Tensor, ...]
"""Tensors with a row for each sample, of any precisions."""


class Passage(NamedTuple):
    """What a stage has at hand when it has updated on a batch.

    Attributes:
        told: what came up to it from behind; None for the last stage, whose loss is its own.
        said: what its interface has to say to the one in front, if it says anything.
    """

    x: Input
    g: State
    h: State
    y: Labels
    told: Tensor | None = None
    said: Tensor | None = None


class Reply(NamedTuple):
    """What an interface and a memory read of a letter: the gradient (or what stands for it) and, if it is there, the
    state, both at the interface's boundary.
    """

    g: Tensor
    h: State | None = None


class Post(ABC):
    """What is sent up for each batch, and how it is read.

    Attributes:
        gradients: whether what is read stands for the gradient at the boundary.
    """

    gradients: ClassVar[bool] = True

    @abstractmethod
    def write(self, passage: Passage) -> Letter:
        """The letter of the stage behind the boundary."""

    @abstractmethod
    def room(self, h: State) -> Letter:
        """Tensors of the letter's sizes, with any numbers.

        Args:
            h: the state at the boundary, of as many rows.
        """

    def read(self, letter: Letter, h: State) -> Reply:
        """What the letter says; as it is, unless it is to be unpacked.

        Args:
            h: a tensor of the state's shape and precision at the boundary.
        """
        return Reply(*letter)
