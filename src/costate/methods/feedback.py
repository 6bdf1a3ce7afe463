"""Direct feedback alignment (Nøkland, 2016): the output's error goes to all stages, and through none of them."""

from collections.abc import Iterator, Sequence

from costate.architectures.block import Block
from costate.interfaces import Feedback
from costate.methods.base import Method
from costate.posts import OutputError
from costate.schedules import Event, locked
from costate.tasks import Task
from costate.types import Shape


class DirectFeedback(Method):
    """Feedback interfaces; a stage waits for the forward pass of those behind, not for their backward pass."""

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Feedback:
        return Feedback(shape, task.outputs)

    def post(self, task: Task) -> OutputError:
        return OutputError(task)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return locked(stages, n, lag)
