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

    Attributes:
        rows: of the latest batch.
    """

    def __init__(self, task: Task, between: Interface):
        super().__init__(task)
        self.between = between
        self.rows = 0

    @property
    def last(self) -> list[tuple[Tensor, Tensor]]:
        """Prediction and target of each boundary of the latest batch, in the order of time; none without learning.

        Where the state was carried on, the first one is that between this batch and the one before.
        """
        if not isinstance(self.between, Learning) or self.between.last is None:
            return []
        # They were learnt as rows below each other, from the end.
        predictions, targets = (rows.split(self.rows) for rows in self.between.last)
        return list(zip(predictions, targets, strict=True))[::-1]
