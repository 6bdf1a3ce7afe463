"""In which order rows are read, and the loaders that read them: one gather per batch, no worker processes.

Rows are counted from 0; B is the joint batch of all replicas; replica r of R reads its share of each joint batch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Int, Shaped
from lightning.pytorch import LightningDataModule
from torch import Tensor

from costate.data.store import Pages, ahead

Batch = tuple[Tensor, Tensor]


@final
class Loader:
    """Hands out the batches of an epoch, from any of them on; Lightning can save and restore the place in it.

    `batches` gives fresh pairs (x float, y) of an epoch, from a batch on; one is made when it is asked for. torch's
    DataLoader would draw from the global generator at each pass, so that a resumed run would differ from an
    uninterrupted one.
    """

    batch_sampler = None  # Lightning asks for it wherever there is a sampler

    def __init__(self, number: int, batches: Callable[[int, int], Iterable[Batch]]):
        self.number, self.batches = number, batches
        self.epoch = 0
        self.batch = 0  # batches handed out in this epoch
        self._skip = 0  # batches that the next pass leaves out, since they were handed out before a restart

    def __len__(self) -> int:
        return self.number

    @property
    def sampler(self) -> "Loader":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; a place within another epoch is forgotten."""
        if epoch != self.epoch:
            self.epoch, self.batch, self._skip = epoch, 0, 0

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing happens before the first batch is asked for. Lightning restores a loader, makes its
        # iterator, and only then says which epoch it is.
        self.batch, self._skip = self._skip, 0
        for pair in self.batches(self.epoch, self.batch):
            self.batch += 1
            yield pair

    def state_dict(self) -> dict[str, int]:
        """The place: epoch and batches handed out in it. It does not depend on the replica."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass over that epoch go on behind that batch."""
        self.epoch = state["epoch"]
        self.batch = self._skip = state["batch"]


class Rows(NamedTuple):
    """Samples x (rows, *shape), as bytes or floats, and their labels y: (rows,) classes or (rows, outputs) targets."""

    x: Tensor | Pages
    y: Tensor

    @classmethod
    def of(cls, arrays: Mapping[str, Any], part: str) -> "Rows":
        """Those of a part of arrays that are held in memory, or in a file."""
        x, y = (arrays[f"{part}_{name}"] for name in "xy")
        return cls(x if isinstance(x, Pages) else torch.from_numpy(x), torch.from_numpy(y).long())

    def take(self, part: Int[Tensor, " _"]) -> "Rows":
        x = self.x.take(part) if isinstance(self.x, Pages) else gather(self.x, part)
        return Rows(x, gather(self.y, part))


def share(data: LightningDataModule) -> tuple[int, int]:
    """This process's number among those that share out batches, and how many those are."""
    told = data.trainer.distributed_sampler_kwargs if data.trainer else None
    return (told["rank"], told["num_replicas"]) if told else (0, 1)


def check_share(batch_size: int, replicas: int) -> None:
    """ValueError where processes would not have equally many rows of a batch."""
    if batch_size % replicas:
        raise ValueError(
            f"data.batch_size={batch_size} cannot be shared out evenly among {replicas} processes: "
            f"choose a multiple of {replicas}."
        )


def generator(*seeds: int) -> torch.Generator:
    """A random generator that is a pure function of the seeds."""
    # torch's CPU generator keeps 32 bits of its seed and starts alike from neighbouring ones: mix first.
    return torch.Generator().manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))


@dataclass(frozen=True)
class Shuffled:
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
        check_share(self.batch_size, self.replicas)

    def __len__(self) -> int:
        return self.rows // self.batch_size

    def epoch(self, epoch: int) -> tuple[Int[Tensor, " _"], ...]:
        """The row numbers of each batch."""
        permutation = torch.randperm(self.rows, generator=generator(self.seed, epoch))
        joint = permutation[: len(self) * self.batch_size].view(len(self), self.batch_size)
        return joint[:, self.replica :: self.replicas].contiguous().unbind()


@dataclass(frozen=True)
class InOrder:
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


def reading(
    rows: Rows,
    order: Shuffled | InOrder,
    prepare: Callable[[Tensor], Tensor],
    augment: Callable[[Tensor, int, int], Tensor] | None = None,
) -> Loader:
    """Reads rows in an order; a batch is changed by `augment`, which knows its epoch and its number, then by `prepare`.

    It would be slower to stack rows one by one.
    """

    def batches(epoch: int, start: int) -> Iterator[Batch]:
        pairs = ((gather(rows.x, i), gather(rows.y, i)) for i in order.epoch(epoch)[start:])
        for i, (x, y) in enumerate(ahead(pairs) if isinstance(rows.x, Pages) else pairs, start):
            yield prepare(x if augment is None else augment(x, epoch, i)), y

    return Loader(len(order), batches)
