"""True gradients that arrive late, and nobody waits (Huo et al., 2018, 1804.10574)."""

from collections.abc import Iterator, Sequence

from costate.architectures.block import Block
from costate.interfaces import Late
from costate.memory import Stash
from costate.methods.base import Method
from costate.schedules import Event, delayed
from costate.settings import Share, Size
from costate.tasks import Task
from costate.types import Shape


class Delayed(Method):
    """Late interfaces, delayed schedule; a backward pass runs under the weights that its forward pass saw.

    Args:
        delay: batches by which a gradient gets older at each boundary; 0 waits for it.
        predict: whether forward passes run under the weights that their gradient is expected to find.
        shrink: β, by which a gradient is multiplied at each boundary.
    """

    def __init__(self, *, delay: Size, predict: bool, shrink: Share):
        self.delay = delay
        self.predict = predict
        self.shrink = shrink

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Late:
        return Late(self.shrink)

    def memory(self, block: Block, behind: int) -> Stash:
        return Stash(self.delay * behind if self.predict else 0)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return delayed(stages, n, self.delay)
