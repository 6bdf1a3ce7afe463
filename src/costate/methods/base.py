"""A method is an interface and a schedule."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from costate.architectures.block import Block
from costate.interfaces import Interface
from costate.memory import Graph, Memory
from costate.schedules import Event
from costate.tasks import Task
from costate.types import Shape


class Method(ABC):
    """Puts an interface on each boundary, says in which order the stages work and what they remember meanwhile."""

    @abstractmethod
    def interface(self, shape: Shape, task: Task) -> Interface:
        """A fresh interface for a boundary whose states have this shape."""

    def memory(self, block: Block) -> Memory:
        """What a stage remembers between its passes; all but the last one, whose passes follow each other.

        Raises:
            ValueError: the method cannot train such a block.
        """
        return Graph()

    @abstractmethod
    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        """The operations of all stages for batch n, where interfaces learn `lag` batches late."""
