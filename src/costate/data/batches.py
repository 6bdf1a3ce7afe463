"""In which order rows are read, and the loader that reads them: one gather per batch, no worker processes.

Rows are counted from 0; B is the joint batch of all replicas; replica r of R reads its share of each joint batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from costate.core.types import Labels, State
from costate.data.pages import Pages, ahead
from costate.data.places import Places


class Rows(NamedTuple):
    """Samples x (rows, *shape), as bytes or floats, and their labels y: (rows,) classes or (rows, outputs) targets."""

    x: Tensor | Pages
    y: Tensor


def generator(*seeds: int) -> torch.Generator:
    """A random generator that is a pure function of the seeds."""
    # torch's CPU generator keeps 32 bits of its seed and starts alike from neighbouring ones: mix first.
    return torch.Generator().manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))


class Order(ABC):
    """Which rows are read in which batch of which epoch."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches in an epoch."""

    @abstractmethod
    def epoch(self, epoch: int) -> tuple[Int[Tensor, " _"], ...]:
        """The row numbers of each batch."""


@dataclass(frozen=True)
class Shuffled(Order):
    """Training order: π = permutation(seed, epoch); batch i of replica r is π[i B : (i + 1) B][r :: R].

    What does not fill a last joint batch is left out: each row is read at most once in an epoch.

    Raises:
        ValueError: B is more than there are rows, or no multiple of R.
    """

    rows: int
    batch_size: int
    seed: int
    replica: int = 0
    replicas: int = 1

    def __post_init__(self) -> None:
        if self.batch_size > self.rows:
            raise ValueError(
                f"data.batch_size={self.batch_size} is more than there are training rows: choose at most {self.rows}."
            )
        if self.batch_size % self.replicas:
            raise ValueError(
                f"data.batch_size={self.batch_size} cannot be shared out evenly among {self.replicas} processes: "
                f"choose a multiple of {self.replicas}."
            )

    def __len__(self) -> int:
        return self.rows // self.batch_size

    def epoch(self, epoch: int) -> tuple[Int[Tensor, " _"], ...]:
        permutation = torch.randperm(self.rows, generator=generator(self.seed, epoch))
        joint = permutation[: len(self) * self.batch_size].view(len(self), self.batch_size)
        return joint[:, self.replica :: self.replicas].contiguous().unbind()


@dataclass(frozen=True)
class InOrder(Order):
    """Evaluation order: replica r reads rows r, r + R, r + 2R, ...; every row is read once, by one replica.

    Every replica has the same number of batches, none of them empty, so that collective calls per batch match.

    Raises:
        ValueError: there are fewer rows than replicas.
    """

    rows: int
    batch_size: int
    replica: int = 0
    replicas: int = 1

    def __post_init__(self) -> None:
        if self.rows < self.replicas:
            raise ValueError(
                f"{self.rows} rows to evaluate are too few for {self.replicas} processes: "
                "raise data.validation (and data.test) or use fewer devices."
            )

    def __len__(self) -> int:
        return min(-(-self.rows // self.batch_size), self.rows // self.replicas)

    def epoch(self, epoch: int) -> tuple[Int[Tensor, " _"], ...]:
        return torch.arange(self.replica, self.rows, self.replicas).tensor_split(len(self))


def gather(x: Shaped[Tensor, " rows *shape"] | Pages, index: Int[Tensor, " batch"]) -> Shaped[Tensor, " batch *shape"]:
    """x[index], in memory of its own."""
    if isinstance(x, Pages):
        return x.gather(index)
    # By numpy, on one thread: torch would share this little work out among all threads, which takes longer than the
    # work itself where they are busy.
    batch = torch.empty(len(index), *x.shape[1:], dtype=x.dtype)
    np.take(x.numpy(), index.numpy(), axis=0, out=batch.numpy(), mode="clip")  # other modes copy once more
    return batch


def unchanged(x: Tensor, epoch: int, batch: int) -> Tensor:
    """Rows as they are."""
    return x


class Loader(Places):
    """Reads rows in an order, a fresh pair (x float, y) per batch; it would be slower to stack rows one by one.

    Args:
        prepare: what is done to the rows of any batch, last of all.
        augment: what is done to the rows of a batch of an epoch before that.
    """

    def __init__(
        self,
        rows: Rows,
        order: Order,
        prepare: Callable[[Tensor], Tensor],
        augment: Callable[[Tensor, int, int], Tensor] = unchanged,
    ):
        super().__init__()
        self.rows = rows
        self.order = order
        self.prepare = prepare
        self.augment = augment

    def __len__(self) -> int:
        return len(self.order)

    def batches(self, start: int) -> Iterator[tuple[State, Labels]]:
        pairs = ((gather(self.rows.x, i), gather(self.rows.y, i)) for i in self.order.epoch(self.epoch)[start:])
        for i, (x, y) in enumerate(ahead(pairs) if isinstance(self.rows.x, Pages) else pairs, start):
            yield self.prepare(self.augment(x, self.epoch, i)), y
