"""A method: what stands on a boundary, what goes up there, what a stage remembers, in which order the stages work.

What it does with a batch is an iteration: find the gradient, and go on from there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, final, runtime_checkable

import torch

from costate.core.block import Block, Network
from costate.core.copies import CopiedBlocks, Copies, Likeness
from costate.core.interface import Interface
from costate.core.post import Gradient, Post
from costate.core.schedules import Event, decoupled
from costate.core.stage import Graph, Memory
from costate.core.tasks import Task
from costate.core.types import Input, Labels, Shape, State
from costate.pvd import Team


@runtime_checkable
class Player(Protocol):
    """What an iteration needs of an execution."""

    stages: Sequence[Any]

    def step(self, n: int, x: Input, y: Labels, ahead: int) -> State | None:
        """Plays the schedule for batch n."""

    def collect(self, rows: list[Any]) -> list[Any]:
        """What each process has, together."""

    def team(self) -> Team:
        """The processes that share out work which is not the stages'."""


class Iteration(ABC):
    """Two parts, with the mean over replicas in between, and with them those who measure gradients."""

    @abstractmethod
    def gradient(self, n: int, x: Input, y: Labels, ahead: int) -> State | None:
        """Leaves gradients in `.grad`; returns the network's output where this process has it."""

    def advance(self, optimizer: torch.optim.Optimizer) -> None:
        """Changes the weights; calls the optimizer once, which counts the batch."""
        optimizer.step()

    def abandon(self) -> None:  # noqa: B027  (most keep nothing)
        """Forgets what is kept from one batch to the next: it is another network's."""

    def state_dict(self) -> dict[str, Any]:
        """What is kept from one batch to the next; all processes ask together."""
        return {}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:  # noqa: B027
        """Takes up where `state_dict` left off."""

    def report(self) -> dict[str, float]:
        """What the latest batch has come to and cost, by the names under which numbers are logged."""
        return {}


@final
class OptimizerStep(Iteration):
    """Gradients of the schedule, one step of the optimizer."""

    def __init__(self, player: Player):
        self.player = player

    def gradient(self, n: int, x: Input, y: Labels, ahead: int) -> State | None:
        return self.player.step(n, x, y, ahead)


class Method(ABC):
    """Puts an interface on each boundary, says in which order the stages work and what they remember meanwhile.

    Attributes:
        copies: of stages, that interfaces in front of them hold; None where they hold none.
        in_time: whether its interface can stand between spans of a recurrent network, as it is set.
        sent: what goes up for each batch, whatever the task is; None where nothing does.
    """

    sent: Post | None = Gradient()
    copies: Copies | None = None
    in_time: bool = False

    @abstractmethod
    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Interface:
        """A fresh interface for a boundary.

        Args:
            shape: of a sample's state there.
            behind: the blocks of the stages behind it.

        Raises:
            ValueError: none of this method can stand there.
        """

    def between_spans(self, size: int, task: Task, step: float | None) -> Interface:
        """A fresh interface for the state of a recurrent network, of so many numbers, between two spans of steps.

        Args:
            step: of the equation that the network's steps solve; None where they solve none.

        Raises:
            ValueError: none of this method can stand there.
        """
        if not self.in_time:
            raise ValueError(
                f"{type(self).__name__} as it is set does not train recurrent networks: choose method=backprop "
                "(checkpoint and accumulate left alone), method=sg, or method=none, which is the truncated one."
            )
        return self.interface((size,), task, [])

    def likeness(self, block: Block, first: bool) -> Likeness | None:
        """What a stage sends of itself where there are `copies`."""
        return None

    def front(self, blocks: Sequence[Block]) -> CopiedBlocks | None:
        """What makes a stage's input of the samples, of the blocks in front; None where it comes from these."""
        return None

    def post(self, task: Task) -> Post | None:
        """What goes up for each batch."""
        return self.sent

    def memory(self, block: Block, behind: int) -> Memory:
        """What a stage remembers between its passes, with so many behind it; not the last, whose follow each other.

        Raises:
            ValueError: the method cannot train such a block.
        """
        return Graph()

    def memories(self, blocks: Sequence[Block]) -> list[Memory]:
        """Those of all stages."""
        return [*(self.memory(block, len(blocks) - 1 - k) for k, block in enumerate(blocks[:-1])), Graph()]

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        """The operations of all stages for batch n, where interfaces learn `lag` batches late: nobody waits."""
        return decoupled(stages, n, lag)

    def iteration(self, player: Player) -> Iteration:
        """What is done with a batch: under the gradients of the schedule, a step of the optimizer."""
        return OptimizerStep(player)

    def cut(self, network: Network, stages: int, balance: Sequence[int] | None = None) -> list[Block]:
        """The network in stages, of these relative sizes.

        Raises:
            ValueError: it cannot be cut so, or the method wants it to be cut otherwise.
        """
        return network.cut(stages, balance)

    def rows(self, batch_size: int, most: int) -> int:
        """Rows of a batch, where so many are asked for by data.batch_size, and there are so many at most."""
        return batch_size
