"""Late gradients without stored activations or weights (PETRA: Rivaud et al., 2025, 2406.02052)."""

from collections.abc import Iterator, Sequence

from costate.architectures.block import Block
from costate.config.settings import Count, Size
from costate.interfaces import Late
from costate.memory import Rebuild
from costate.methods.base import Method
from costate.methods.iteration import Iteration, Player, step_every
from costate.posts import GradientAndState
from costate.schedules import Event, delayed
from costate.tasks import Task
from costate.types import Shape


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
