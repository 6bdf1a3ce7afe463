"""The joint between the update of a stage and the interface in front of it.

    x   state at the stage's input            (batch, *shape)
    g   gradient of the batch's mean loss     (batch, *shape), at x
    h   state at the stage's output; for the last stage the network's
    y   labels of the batch

Rows of letters are samples, and what is read from them is on the scale of the mean loss, as g is: so they can be dealt
out to replicas, and put together again.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from costate.core.tasks import Task
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
    """What is read of a letter: the gradient at the boundary, or what stands for it, and perhaps the state there."""

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
        """The letter of the stage behind the boundary, as `room` for its input says."""

    @abstractmethod
    def room(self, h: State) -> Letter:
        """Tensors of the letter's sizes, with any numbers; h is the state at the boundary, of as many rows."""

    def read(self, letter: Letter, h: State) -> Reply:
        """What the letter says, unpacked where it has to be; h has the state's shape and precision at the boundary."""
        return Reply(*letter)


@final
class Gradient(Post):
    """g."""

    def write(self, passage: Passage) -> Letter:
        return (passage.g,)

    def room(self, h: State) -> Letter:
        return (h,)


@final
class GradientAndState(Post):
    """g and x, for a memory that has kept neither its output nor its input (PETRA: Rivaud et al., 2025)."""

    def write(self, passage: Passage) -> Letter:
        return passage.g, passage.x

    def room(self, h: State) -> Letter:
        return h, h


@final
class OutputError(Post):
    """e = ∂ℓ/∂output, (batch, outputs): the last stage finds it, the others hand it on."""

    gradients = False

    def __init__(self, task: Task):
        self.task = task

    def write(self, passage: Passage) -> Letter:
        if passage.told is not None:
            return (passage.told,)
        with torch.enable_grad():
            output = passage.h.detach().requires_grad_()
            (e,) = torch.autograd.grad(self.task.loss(output, passage.y), output)
        # Under autocast the output is of another precision than states.
        return (e.to(passage.x.dtype),)

    def room(self, h: State) -> Letter:
        return (h.new_empty(len(h), self.task.outputs),)


@final
class Losses(Post):
    """ℓ_i / batch, (batch,), as the next boundary guesses them, or at the last stage the losses themselves; the sum is
    the mean loss (local critics: Lee et al., 2022, 1805.01128).
    """

    gradients = False

    def __init__(self, task: Task):
        self.task = task

    def write(self, passage: Passage) -> Letter:
        losses = self.task.losses(passage.h, passage.y) if passage.said is None else passage.said
        return (losses.detach().to(passage.x.dtype) / len(losses),)

    def room(self, h: State) -> Letter:
        return (h.new_empty(len(h)),)
