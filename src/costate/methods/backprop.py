"""Backpropagation, the baseline: every stage waits for the true gradient."""

from collections.abc import Iterator, Sequence
from typing import final

from costate.architectures.block import Block
from costate.config.settings import Count, Share
from costate.interfaces import Exact
from costate.memory import Checkpoint, Graph, Memory
from costate.methods.accumulation import Accumulation
from costate.methods.base import Method
from costate.methods.iteration import Iteration, OptimizerStep, Player
from costate.posts import Compress, Post, compressed
from costate.schedules import Event, locked
from costate.tasks import Task
from costate.types import Shape


@final
class Backprop(Method):
    """Exact interfaces, locked schedule: autograd, cut in stages.

    Args:
        checkpoint: whether stages keep their inputs alone and run their forward passes again for the backward ones.
        accumulate: pieces of a batch that are run one after the other, for one step on all of it.
        compress: what is sent of a gradient: all of it, signs with one size a sample, or its largest entries.
        share: of the entries, where the largest are sent.
    """

    def __init__(
        self, *, checkpoint: bool = False, accumulate: Count = 1, compress: Compress = "none", share: Share = 1.0
    ):
        self.checkpoint, self.accumulate = checkpoint, accumulate
        self.in_time = not checkpoint and accumulate == 1
        self.compressed = compressed(compress, share)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Exact:
        return Exact()

    def post(self, task: Task) -> Post:
        return self.compressed

    def memory(self, block: Block, behind: int) -> Memory:
        return Checkpoint() if self.checkpoint else Graph()

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return locked(stages, n, lag)

    def iteration(self, player: Player) -> Iteration:
        return OptimizerStep(player) if self.accumulate == 1 else Accumulation(player, self.accumulate)
