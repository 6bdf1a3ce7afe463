"""True gradients that arrive late, and nobody waits (Huo et al., 2018, 1804.10574).

Late gradients; features are computed again under the weights that are to step (Huo et al., 2018, 1807.04511).

Late gradients without stored activations or weights (PETRA: Rivaud et al., 2025, 2406.02052)."""

from collections.abc import Iterator, Sequence

from costate.architectures.block import Block
from costate.config.settings import Count, Share, Size
from costate.core.method import Iteration, Method, Player, step_every
from costate.core.schedules import Event, delayed
from costate.core.tasks import Task
from costate.core.types import Shape
from costate.interfaces import Late
from costate.methods.memories import Rebuild, Replay, Stash
from costate.posts import Compress, GradientAndState, Post, compressed


class Delayed(Method):
    """Late interfaces, delayed schedule; a backward pass runs under the weights that its forward pass saw.

    Args:
        delay: batches by which a gradient gets older at each boundary; 0 waits for it.
        accumulate: a, the batches from one step of the optimizer to the next.
        predict: whether forward passes run under the weights that their gradient is expected to find;
            not where these stand still from one batch to the next.
        shrink: β, by which a gradient is multiplied at each boundary.
        compress: what is sent of a gradient: all of it, signs with one size a sample, or its largest entries.
        share: of the entries, where the largest are sent.
    """

    def __init__(
        self,
        *,
        delay: Size,
        accumulate: Count,
        predict: bool,
        shrink: Share,
        compress: Compress = "none",
        share: Share = 1.0,
    ):
        self.delay = delay
        self.accumulate = accumulate
        self.predict = predict
        self.shrink = shrink
        self.compressed = compressed(compress, share)

    def post(self, task: Task) -> Post:
        return self.compressed

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Late:
        return Late(self.shrink)

    def memory(self, block: Block, behind: int) -> Stash:
        return Stash(self.delay * behind if self.predict and self.accumulate == 1 else 0)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return delayed(stages, n, self.delay)

    def iteration(self, player: Player) -> Iteration:
        return step_every(self.accumulate, player)


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


class Petra(Method):
    """Late interfaces, delayed schedule; a reversible stage rebuilds its input from its output under today's weights.

    Args:
        delay: batches by which a gradient gets older at each boundary; 0 waits for it.
        accumulate: a, the batches from one step of the optimizer to the next.
    """

    def __init__(self, *, delay: Size, accumulate: Count):
        self.delay = delay
        self.accumulate = accumulate

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Late:
        return Late(1.0)

    def post(self, task: Task) -> GradientAndState:
        return GradientAndState()

    def memory(self, block: Block, behind: int) -> Rebuild:
        return Rebuild(block)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return delayed(stages, n, self.delay)

    def iteration(self, player: Player) -> Iteration:
        return step_every(self.accumulate, player)
