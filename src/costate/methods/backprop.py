"""Backpropagation, the baseline: every stage waits for the true gradient."""

from collections.abc import Iterator, Sequence

from costate.architectures.block import Block
from costate.interfaces import Exact
from costate.methods.base import Method
from costate.schedules import Event, locked
from costate.tasks import Task
from costate.types import Shape


class Backprop(Method):
    """Exact interfaces, locked schedule: autograd, cut in stages."""

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Exact:
        return Exact()

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return locked(stages, n, lag)
