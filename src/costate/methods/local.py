"""No gradient crosses a boundary: each has a loss of its own, or is told the output's error, or nothing."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

from costate.config.settings import Count, Share
from costate.core.block import Block
from costate.core.method import Method
from costate.core.schedules import Event, decoupled, locked
from costate.core.tasks import Classification, Task
from costate.core.types import Shape
from costate.interfaces.local import Critic, Head, LocalLoss, features, local_head
from costate.interfaces.passing import Feedback, Silent
from costate.posts import Losses, OutputError


class Greedy(Method):
    """Decoupled greedy learning: the network's own loss trains the last stage alone, a local one each of the others.

    Belilovsky, Eickenberg & Oyallon (2020), 1901.08164; Nøkland & Eidnes (2019), 1901.06656.

    Args:
        loss: the task's loss of a head that guesses the output; how well samples of a class resemble each other; both.
        head: what guesses.
        similarity: β, the share of the resemblance in predsim.
        layers: hidden ones of an mlp or conv head.
        width: features of a hidden layer, or channels.
        pool: pixels along either axis that a head reads of an image.
    """

    sent = None

    def __init__(
        self,
        *,
        loss: Literal["pred", "sim", "predsim"],
        head: Head,
        similarity: Share,
        layers: Count,
        width: Count,
        pool: Count,
    ):
        self.loss = loss
        self.head = partial(local_head, head, layers=layers, width=width, pool=pool)
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
        compares = features(shape) if self.similarity > 0 else None
        return LocalLoss(guesses, compares, task, self.similarity)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return decoupled(stages, n, lag)


class LocalCritics(Method):
    """Each boundary guesses the output, and learns what the next guess is worth (Lee et al., 2022, 1805.01128).

    Args:
        head, layers, width, pool: of what guesses, as of `Greedy`.
    """

    def __init__(self, *, head: Head, layers: Count, width: Count, pool: Count):
        self.head = partial(local_head, head, layers=layers, width=width, pool=pool)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Critic:
        return Critic(self.head(shape, task.outputs), task)

    def post(self, task: Task) -> Losses:
        return Losses(task)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return decoupled(stages, n, lag)


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
