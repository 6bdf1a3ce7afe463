"""Local critics (Lee et al., 2022): each boundary guesses the output, and learns what the next guess is worth."""

from collections.abc import Iterator, Sequence
from functools import partial

from costate.architectures.block import Block
from costate.config.settings import Count
from costate.interfaces import Critic, heads
from costate.methods.base import Method
from costate.posts import Losses
from costate.schedules import Event, decoupled
from costate.tasks import Task
from costate.types import Shape


class LocalCritics(Method):
    """Critics, decoupled schedule.

    Args:
        head: what guesses.
        layers: hidden ones of an mlp or conv head.
        width: features of a hidden layer, or channels.
        pool: pixels along either axis that a head reads of an image.
    """

    def __init__(self, *, head: heads.Kind, layers: Count, width: Count, pool: Count):
        self.head = partial(heads.build, head, layers=layers, width=width, pool=pool)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Critic:
        return Critic(self.head(shape, task.outputs), task)

    def post(self, task: Task) -> Losses:
        return Losses(task)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return decoupled(stages, n, lag)
