"""What stands behind a recurrent network: the loss at its steps and, between two spans of them, an interface."""

from typing import final

from torch import Tensor

from costate.interfaces.base import Interface, Learning
from costate.interfaces.loss import Loss
from costate.tasks import Task


@final
class EachSpan(Loss):
    """The task's loss, and the method's interface for the state that goes from span to span: one for all of them.

    Args:
        between: it answers what g is at the state in front of a span.
    """

    def __init__(self, task: Task, between: Interface):
        super().__init__(task)
        self.between = between

    @property
    def last(self) -> tuple[Tensor, Tensor] | None:
        """Predictions and targets of all boundaries of the latest batch, as rows below each other."""
        return self.between.last if isinstance(self.between, Learning) else None
