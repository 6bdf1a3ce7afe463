"""Gradients of a coarse copy of what is behind: stages update at once, and nothing is learnt."""

from collections.abc import Iterator, Sequence
from typing import Literal

from costate.config.settings import Count, Rate, Size
from costate.core.block import Block, Coarsening
from costate.core.copies import Copies
from costate.core.likeness import CopiedBlocks, Likeness
from costate.core.method import Method
from costate.core.schedules import Event, decoupled
from costate.core.tasks import Task
from costate.core.types import Shape
from costate.interfaces import Coarse


class CoarseCopies(Method):
    """Coarse interfaces, decoupled schedule.

    Args:
        factor: layers that become one, at most; 1 copies all that is behind, of networks without time steps, too.
        step: the longest time step that they may make up: with a longer one a copy is no likeness.
        refresh: batches from a copy to the next one, or a share of the run's; 1 and factor=1 are backpropagation.
        travel: batches from the making of a copy to its use, as far as the next one has not been made by then.
        tune: batches from one step to the next by which a stage makes its copy more like itself; 0: none.
        inputs: whether a stage takes its input as it comes from the stage in front, or makes it itself, of the samples
            by coarse copies of the stages in front: then no state travels, and all stages work on a batch at once.

    Raises:
        ValueError: batches from a copy to the next are no whole number.
    """

    def __init__(
        self,
        *,
        factor: Count,
        step: Rate,
        refresh: Rate,
        travel: Size,
        tune: Size,
        inputs: Literal["received", "coarse"] = "received",
    ):
        if refresh > 1 and refresh % 1:
            raise ValueError(
                f"method.refresh={refresh:g}: a number of batches is whole; below 1 it is a share of the run's."
            )
        self.rule, self.inputs = Coarsening(factor, step), inputs
        self.copies = Copies(refresh, travel, tune if factor > 1 else 0)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Coarse:
        return Coarse(behind, task, self.rule)

    def likeness(self, block: Block, first: bool) -> Likeness | None:
        return None if first and self.inputs == "received" else Likeness(block, self.rule)

    def front(self, blocks: Sequence[Block]) -> CopiedBlocks | None:
        return CopiedBlocks(blocks, self.rule) if self.inputs == "coarse" else None

    def post(self, task: Task) -> None:
        return None

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return decoupled(stages, n, lag)
