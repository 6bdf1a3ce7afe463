"""Decoupled greedy learning: every stage has a loss of its own, and no gradient crosses a boundary.

Belilovsky, Eickenberg & Oyallon (2020), 1901.08164; Nøkland & Eidnes (2019), 1901.06656.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

from costate.architectures.block import Block
from costate.config.settings import Count, Share
from costate.interfaces import LocalLoss, heads
from costate.methods.base import Method
from costate.schedules import Event, decoupled
from costate.tasks import Classification, Task
from costate.types import Shape


class Greedy(Method):
    """Local losses, decoupled schedule; the network's own loss trains the last stage alone.

    Args:
        loss: the task's loss of a head that guesses the output; how well samples of a class resemble each other; both.
        head: what guesses.
        similarity: β, the share of the resemblance in predsim.
        layers: hidden ones of an mlp or conv head.
        width: features of a hidden layer, or channels.
        pool: pixels along either axis that a head reads of an image.
    """

    def __init__(
        self,
        *,
        loss: Literal["pred", "sim", "predsim"],
        head: heads.Kind,
        similarity: Share,
        layers: Count,
        width: Count,
        pool: Count,
    ):
        self.loss = loss
        self.head = partial(heads.build, head, layers=layers, width=width, pool=pool)
        self.similarity = {"pred": 0.0, "sim": 1.0}.get(loss, similarity)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> LocalLoss:
        """Of one boundary.

        Raises:
            ValueError: samples without classes are to be compared by them, or a convolution is to read vectors.
        """
        if self.similarity > 0 and not isinstance(task, Classification):
            raise ValueError(
                f"method.loss={self.loss} compares samples by their classes, and here numbers are to be predicted: "
                "use method.loss=pred"
            )
        guesses = self.head(shape, task.outputs) if self.similarity < 1 else None
        compares = heads.features(shape) if self.similarity > 0 else None
        return LocalLoss(guesses, compares, task, self.similarity)

    def post(self, task: Task) -> None:
        return None

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return decoupled(stages, n, lag)
