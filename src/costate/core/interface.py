"""The joint between two stages.

    h   state at the boundary, detached                (batch, *shape)
    y   labels of the batch
    g   gradient of the batch's mean loss at h         (batch, *shape)
    n   number of the batch since training began

Messages between stages carry g as backpropagation has it, on the scale of the mean loss. An interface that learns
works on the scale of each sample's own loss, batch times g, so that its target does not depend on the batch size.
"""

import copy
from abc import ABC, abstractmethod
from typing import cast, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from costate.core.tasks import Task
from costate.core.types import Labels, State


class Interface(nn.Module, ABC):
    """Answers one question: what is g at this boundary?

    Attributes:
        said: what it has to say of the latest batch to the interface in front, where the method's post asks for it.
    """

    said: Tensor | None = None

    @abstractmethod
    def gradient(self, h: State, y: Labels, arrived: Tensor | None, n: int) -> State:
        """The g under which the stage in front of the boundary updates; asked once for each batch.

        Its rows are independent, and so are equal in one process and on replicas that share the batch out, unless the
        interface is among those that `execution.replicas` joins.

        Args:
            arrived: what came up for the batch, the gradient or what the method's post has in its place; None if the
                schedule does not wait for it.
        """

    def root(self, h: State, y: Labels, arrived: Tensor | None, n: int) -> tuple[Tensor, Tensor | None]:
        """Where the backward pass of the stage in front begins, and the gradient there; h has the stage's graph."""
        return h, self.gradient(h.detach(), y, arrived, n)

    def study(self, h: State, y: Labels) -> None:
        """Called in place of `gradient` where the stage updates under the true one: what learns there, learns here."""


class Learning(Interface):
    """An interface that learns from the gradients that arrive, be it late.

    Attributes:
        last: prediction and target of the latest fit, each sample's own scale, for those who measure.
    """

    last: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def fit(self, h: State, y: Labels, target: Tensor) -> Float[Tensor, ""]:
        """Regression loss of the prediction at h against the gradient that arrived there; its graph ends at h."""


class Loss(Interface):
    """Stands behind the last stage, and answers the gradient of the task's loss at the network's output.

    Attributes:
        value: the loss of the latest batch.
    """

    def __init__(self, task: Task):
        super().__init__()
        self.task = task
        self.value = torch.zeros(())

    def root(self, h: State, y: Labels, arrived: State | None, n: int) -> tuple[Tensor, None]:
        # One start of autograd's engine instead of two: a tenth of a millisecond.
        loss = self.task.loss(h, y)
        self.value = loss.detach()
        return loss, None

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        output = h.requires_grad_()
        return torch.autograd.grad(self.root(output, y, arrived, n)[0], output)[0]


@final
class EachSpan(Interface):
    """Stands behind a stage of a recurrent network, which is cut in two directions.

    A boundary in depth has a state a step, (batch, steps, *shape), and each of them is a row to the interface there,
    with labels of its own; g stays the gradient of the mean over the samples, whose own losses are those of all steps.

    Args:
        behind: the loss at its steps, or between two stages what answers for a step.
        between: answers what g is at the state that goes from span to span: one for all boundaries.

    Attributes:
        others: where each boundary has one of its own, those of the second and later ones.
        rows: of the latest batch.
    """

    def __init__(self, behind: Interface, between: Interface):
        super().__init__()
        self.behind, self.between = behind, between
        self.others = nn.ModuleList()
        self.rows = 0

    def spread(self, boundaries: int) -> None:
        """Gives each of so many boundaries an interface of its own, as stages in depth have."""
        self.others = nn.ModuleList(copy.deepcopy(self.between) for _ in range(boundaries - 1))

    def at(self, k: int) -> Interface:
        """The one in front of span k."""
        own = self.others and k > 1
        return cast(Interface, self.others[k - 2]) if own else self.between

    def root(self, h: State, y: Tensor, arrived: Tensor | None, n: int) -> tuple[Tensor, Tensor | None]:
        if isinstance(self.behind, Loss):
            return self.behind.root(h, y, arrived, n)
        return h, self.gradient(h.detach(), y, arrived, n)

    def gradient(self, h: State, y: Tensor, arrived: Tensor | None, n: int) -> Tensor:
        steps = h.shape[1]
        told = None if arrived is None else arrived.flatten(0, 1) / steps
        return self.behind.gradient(h.flatten(0, 1), y.flatten(0, 1), told, n).view_as(h) * steps

    def fit(self, h: State, y: Tensor, target: Tensor) -> Float[Tensor, ""]:
        """The regression of what answers between two stages, on steps."""
        assert isinstance(self.behind, Learning), "asked of those"
        return self.behind.fit(h.flatten(0, 1), y.flatten(0, 1), target.flatten(0, 1) / h.shape[1])

    @property
    def last(self) -> list[tuple[Tensor, Tensor]]:
        """Prediction and target of each boundary between spans of the latest batch, in the order of time; none without
        learning.

        Where the state was carried on, the first one is that between this batch and the one before.
        """
        found: list[tuple[Tensor, Tensor]] = []
        for between in (self.between, *self.others):
            if isinstance(between, Learning) and between.last is not None:
                # They were learnt as rows below each other, from the end.
                predictions, targets = (rows.split(self.rows) for rows in between.last)
                found += list(zip(predictions, targets, strict=True))[::-1]
        return found
