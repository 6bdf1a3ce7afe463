"""No gradient crosses a boundary: what the last stage can do alone ("No Bprop", Jaderberg et al., 2017)."""

from collections.abc import Iterator, Sequence

from costate.architectures.block import Block
from costate.interfaces import Silent
from costate.methods.base import Method
from costate.schedules import Event, decoupled
from costate.tasks import Task
from costate.types import Shape


class NoBprop(Method):
    """Silent interfaces, decoupled schedule; in time it is truncated backpropagation."""

    in_time = True

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Silent:
        return Silent()

    def post(self, task: Task) -> None:
        return None

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return decoupled(stages, n, lag)
