"""Random projections: what goes up a boundary is a sketch of each sample's gradient.

R       orthonormal columns, (features, size); all boundaries' by the same seed
s = g R   is sent, (batch, size);   g used = s Rᵀ
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from costate.config.settings import Count
from costate.core.block import Block
from costate.core.interface import Interface
from costate.core.method import Method
from costate.core.post import Letter, Passage, Post
from costate.core.schedules import Event, locked
from costate.core.tasks import Task
from costate.core.types import Labels, Shape, State


def columns(features: int, size: int) -> Tensor:
    """R."""
    whole = torch.randn(features, features, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(whole)[0][:, :size]


class Sketch(Post):
    """s."""

    gradients = False

    def __init__(self, size: int):
        self.size = size

    def write(self, passage: Passage) -> Letter:
        g = passage.g.flatten(1)
        return (g @ columns(g.shape[1], self.size).to(g),)

    def room(self, h: State) -> Letter:
        return (h.new_empty(len(h), self.size),)


class Sketched(Interface):
    """Answers s Rᵀ."""

    def __init__(self, shape: Shape, size: int):
        super().__init__()
        self.register_buffer("R", columns(torch.Size(shape).numel(), size))

    def gradient(self, h: State, y: Labels, arrived: Tensor | None, n: int) -> Tensor:
        assert arrived is not None, "the schedule waits for it"
        return (arrived @ self.R.T.to(arrived)).view_as(h)


class RandomProjections(Method):
    """Sketched interfaces, locked schedule.

    Args:
        size: numbers that are sent of a sample's gradient.
    """

    def __init__(self, *, size: Count):
        self.size = size

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Sketched:
        return Sketched(shape, self.size)

    def post(self, task: Task) -> Sketch:
        return Sketch(self.size)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return locked(stages, n, lag)
