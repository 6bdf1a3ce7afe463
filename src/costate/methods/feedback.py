"""No gradient crosses a boundary: the output's error goes to all stages, and through none of them, or nothing does."""

from collections.abc import Iterator, Sequence

from costate.core.block import Block
from costate.core.method import Method
from costate.core.schedules import Event, decoupled, locked
from costate.core.tasks import Task
from costate.core.types import Shape
from costate.interfaces import Feedback, Silent
from costate.posts import OutputError


class DirectFeedback(Method):
    """Direct feedback alignment (Nøkland, 2016): feedback interfaces; a stage waits for the forward pass of those
    behind, not for their backward pass.
    """

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Feedback:
        return Feedback(shape, task.outputs)

    def post(self, task: Task) -> OutputError:
        return OutputError(task)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return locked(stages, n, lag)


class NoBprop(Method):
    """Silent interfaces, decoupled schedule: what the last stage can do alone ("No Bprop", Jaderberg et al., 2017); in
    time it is truncated backpropagation.
    """

    sent = None
    in_time = True

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Silent:
        return Silent()

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return decoupled(stages, n, lag)
