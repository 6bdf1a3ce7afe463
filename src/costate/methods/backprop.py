"""Backpropagation, the baseline: every stage waits for the true gradient."""

from collections.abc import Iterator
from typing import final

from costate.architectures.block import Block
from costate.interfaces import Exact
from costate.memory import Checkpoint, Graph, Memory
from costate.methods.accumulation import Accumulation
from costate.methods.base import Method
from costate.methods.iteration import Iteration, OptimizerStep, Player
from costate.schedules import Event, locked
from costate.settings import Count
from costate.tasks import Task
from costate.types import Shape


@final
class Backprop(Method):
    """Exact interfaces, locked schedule: autograd, cut in stages.

    Args:
        checkpoint: whether stages keep their inputs alone and run their forward passes again for the backward ones.
        accumulate: pieces of a batch that are run one after the other, for one step on all of it.
    """

    def __init__(self, *, checkpoint: bool = False, accumulate: Count = 1):
        self.checkpoint, self.accumulate = checkpoint, accumulate

    def interface(self, shape: Shape, task: Task) -> Exact:
        return Exact()

    def memory(self, block: Block, behind: int) -> Memory:
        return Checkpoint() if self.checkpoint else Graph()

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return locked(stages, n, lag)

    def iteration(self, player: Player) -> Iteration:
        return OptimizerStep(player) if self.accumulate == 1 else Accumulation(player, self.accumulate)
