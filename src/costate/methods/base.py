"""A method is an interface and a schedule."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from costate.interfaces import Interface
from costate.schedules import Event
from costate.tasks import Task
from costate.types import Shape


class Method(ABC):
    """Puts an interface on each boundary and says in which order the stages work."""

    @abstractmethod
    def interface(self, shape: Shape, task: Task) -> Interface:
        """A fresh interface for a boundary whose states have this shape."""

    @abstractmethod
    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        """The operations of all stages for batch n, where interfaces learn `lag` batches late."""
