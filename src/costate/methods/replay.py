"""Late gradients; features are computed again under the weights that are to step (Huo et al., 2018, 1807.04511)."""

from collections.abc import Iterator, Sequence

from costate.architectures.block import Block
from costate.config.settings import Count, Share, Size
from costate.interfaces import Late
from costate.memory import Replay
from costate.methods.base import Method
from costate.methods.iteration import Iteration, Player, step_every
from costate.posts import Compress, Post, compressed
from costate.schedules import Event, delayed
from costate.tasks import Task
from costate.types import Shape


class FeaturesReplay(Method):
    """Late interfaces, delayed schedule; a stage keeps its inputs and replays its forward pass under today's weights.

    Args:
        delay: batches by which a gradient gets older at each boundary; 0 waits for it.
        accumulate: a, the batches from one step of the optimizer to the next.
        predict: whether forward passes run under the weights that their gradient is expected to find;
            not where these stand still from one batch to the next.
        compress: what is sent of a gradient: all of it, signs with one size a sample, or its largest entries.
        share: of the entries, where the largest are sent.
    """

    def __init__(
        self, *, delay: Size, accumulate: Count, predict: bool, compress: Compress = "none", share: Share = 1.0
    ):
        self.delay = delay
        self.accumulate = accumulate
        self.predict = predict
        self.compressed = compressed(compress, share)

    def post(self, task: Task) -> Post:
        return self.compressed

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Late:
        return Late(1.0)

    def memory(self, block: Block, behind: int) -> Replay:
        return Replay(self.delay * behind if self.predict and self.accumulate == 1 else 0)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return delayed(stages, n, self.delay)

    def iteration(self, player: Player) -> Iteration:
        return step_every(self.accumulate, player)
