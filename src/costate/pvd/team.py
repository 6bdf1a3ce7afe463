"""Who does the work of the p workers: one process, in turn, or one process each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import final

from jaxtyping import Float
from torch import Tensor

from costate.pvd.worker import Result


class Team(ABC):
    """Carries out the parallelisation of an outer iteration."""

    @abstractmethod
    def results(self, work: Callable[[int], Result], p: int) -> list[Result]:
        """work(0), ..., work(p − 1), the same bits on every process."""

    @abstractmethod
    def agree(self, decision: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """The decision of one process, on all of them."""

    @abstractmethod
    def busy(self, seconds: Sequence[float]) -> float:
        """How long the work takes the team, if it takes each worker so long."""

    @abstractmethod
    def mean(self, numbers: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Over the processes that share out the samples of f, if there are several."""


@final
class InTurn(Team):
    """This process does everything, one worker after the other.

    Args:
        mean: over the processes that share out the samples of f; None: there are none.
    """

    def __init__(self, mean: Callable[[Tensor], Tensor] | None = None):
        self._mean = mean

    def results(self, work: Callable[[int], Result], p: int) -> list[Result]:
        return [work(l) for l in range(p)]

    def agree(self, decision: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        return decision

    def busy(self, seconds: Sequence[float]) -> float:
        return sum(seconds)

    def mean(self, numbers: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return numbers if self._mean is None else self._mean(numbers)
