"""The joint between two stages.

    h   state at the boundary, detached                (batch, *shape)
    y   labels of the batch
    g   gradient of the batch's mean loss at h         (batch, *shape)
    n   number of the batch since training began

Messages between stages carry g as backpropagation has it, on the scale of the mean loss. An interface that learns
works on the scale of each sample's own loss, batch times g, so that its target does not depend on the batch size.
"""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from costate.types import Labels, State


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
