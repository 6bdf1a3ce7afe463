"""Gradients of a coarse copy of what is behind: stages update at once, and nothing is learnt."""

from collections.abc import Iterator, Sequence

from costate.architectures.block import Block
from costate.interfaces import Coarse, Likeness
from costate.methods.base import Method
from costate.methods.copies import Copies
from costate.schedules import Event, decoupled
from costate.settings import Count, Size
from costate.tasks import Task
from costate.types import Shape


class CoarseCopies(Method):
    """Coarse interfaces, decoupled schedule.

    Args:
        factor: layers that become one; 1 copies all that is behind, of networks without time steps, too.
        refresh: batches from a copy to the next one; with 1 and factor=1 it is backpropagation.
        travel: batches from the making of a copy to its use, as far as the next one has not been made by then.
        tune: batches from one step to the next by which a stage makes its copy more like itself; 0: none.
    """

    def __init__(self, *, factor: Count, refresh: Count, travel: Size, tune: Size):
        self.factor = factor
        self.copies = Copies(refresh, min(travel, refresh - 1), tune if factor > 1 else 0)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Coarse:
        return Coarse(behind, task, self.factor)

    def likeness(self, block: Block) -> Likeness:
        return Likeness(block, self.factor)

    def post(self, task: Task) -> None:
        return None

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return decoupled(stages, n, lag)
