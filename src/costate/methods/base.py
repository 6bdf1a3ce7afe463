"""A method is an interface and a schedule."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from costate.architectures import Network
from costate.architectures.block import Block
from costate.interfaces import CopiedBlocks, Interface, Likeness, Loss
from costate.memory import Graph, Memory
from costate.methods.copies import Copies
from costate.methods.iteration import Iteration, OptimizerStep, Player
from costate.posts import Gradient, Post
from costate.schedules import Event
from costate.tasks import Task
from costate.types import Shape


class Method(ABC):
    """Puts an interface on each boundary, says in which order the stages work and what they remember meanwhile.

    Attributes:
        copies: of stages, that interfaces in front of them hold; None where they hold none.
        in_time: whether its interface can stand between spans of a recurrent network, as it is set.
    """

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

    def between_spans(self, size: int, task: Task) -> Interface:
        """A fresh interface for the state of a recurrent network, of so many numbers, between two spans of steps.

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
        """What makes a stage's input of the samples; None where it comes from the stage in front.

        Args:
            blocks: of the stages in front.
        """
        return None

    def post(self, task: Task) -> Post | None:
        """What goes up for each batch; None where nothing does."""
        return Gradient()

    def ending(self, task: Task) -> Loss:
        """What stands behind the last stage."""
        return Loss(task)

    def memory(self, block: Block, behind: int) -> Memory:
        """What a stage remembers between its passes; all but the last one, whose passes follow each other.

        Args:
            behind: number of stages behind it.

        Raises:
            ValueError: the method cannot train such a block.
        """
        return Graph()

    def memories(self, blocks: Sequence[Block]) -> list[Memory]:
        """Those of all stages."""
        return [*(self.memory(block, len(blocks) - 1 - k) for k, block in enumerate(blocks[:-1])), Graph()]

    @abstractmethod
    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        """The operations of all stages for batch n, where interfaces learn `lag` batches late."""

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
