"""The data module that all data sets share: three disjoint parts in memory, and a loader for each."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from lightning.pytorch import LightningDataModule
from torch import Tensor

from costate.data.augment import Augmentation, Kind, change
from costate.data.batches import InOrder, Loader, Rows, Shuffled, generator
from costate.data.pages import Pages
from costate.settings import Count, Size
from costate.tasks import Task
from costate.types import Shape, State

EVALUATION_ROWS = 500  # rows in a batch of validation and test; no result depends on it


class Parts(NamedTuple):
    """Three parts without a common row."""

    train: Rows
    validation: Rows
    test: Rows


class Standardise:
    """Bytes to floats of mean 0 and variance 1 per channel: x ← (x − μ) / σ, with μ, σ of the rows it is made from.

    Args:
        x: (rows, channels, ...) bytes, in memory or in a file.
    """

    def __init__(self, x: UInt8[Tensor, "rows channels *place"] | Pages):
        value = torch.arange(256, dtype=torch.float64)
        # Counts are integers, so μ and σ do not depend on the order of summation.
        share = sum(_counts(piece) for piece in (x.pieces() if isinstance(x, Pages) else [x]))
        assert isinstance(share, Tensor), "there are rows"
        share /= share.sum(1, keepdim=True)
        mean = share @ value
        deviation = ((share @ value**2) - mean**2).clamp_min(0).sqrt()
        deviation[deviation == 0] = 1  # a channel that never changes
        column = (len(share), *(1 for _ in x[:1].shape[2:]))
        self.scale = (1 / deviation).float().view(column).numpy()
        self.shift = (-mean / deviation).float().view(column).numpy()

    def __call__(self, x: UInt8[Tensor, "batch channels *place"]) -> Float[Tensor, "batch channels *place"]:
        batch = torch.empty(x.shape)
        values = batch.numpy()  # on one thread, see `gather`
        np.copyto(values, x.numpy())
        values *= self.scale
        values += self.shift
        return batch


def _counts(x: UInt8[Tensor, "rows channels *place"]) -> Float[Tensor, "channels 256"]:
    """How often each channel has each value."""
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in x.unbind(1)]).double()


def untouched(x: State) -> State:
    """What is done to rows that are floats already."""
    return x


def as_asked(batch_size: int, most: int) -> int:
    """A step has data.batch_size rows."""
    return batch_size


def divide(rows: int, train: int | None, validation: int, test: int, seed: int) -> tuple[Int[Tensor, " _"], ...]:
    """Row numbers of three disjoint parts, drawn by the seed; None stands for all rows that are left.

    Raises:
        ValueError: there are too few rows.
    """
    held = validation + test
    if rows < held + (train or 1):
        wish = f"data.train={train or 1}, data.validation={validation}" + (f", data.test={test}" if test else "")
        raise ValueError(f"{wish} ask for {held + (train or 1)} rows and there are {rows} to divide: choose fewer.")
    order = torch.randperm(rows, generator=generator(seed))
    # Validation and test come first: they stay the same rows when the number of training rows changes.
    return order[held:][:train], order[:validation], order[validation:held]


class InMemory(LightningDataModule, ABC):
    """A data set held in memory; batches are (x float (batch, *shape), y).

    Args:
        shape: of one sample.
        task: what is learned from it.
        batch_size: training rows in a step, of all processes together.
        seed: of the division into parts, or of the points that are drawn.
        shuffle_seed: of the order of training batches.
        augment: how pictures of training batches are changed.

    Raises:
        ValueError: samples that are no pictures are to be changed like ones.
    """

    def __init__(
        self,
        shape: Shape,
        task: Task,
        *,
        batch_size: Count,
        seed: Size,
        shuffle_seed: Size,
        augment: Kind = "none",
    ):
        super().__init__()
        if augment != "none" and len(shape) != 3:
            raise ValueError(f"data.augment={augment} is for pictures, and samples are {shape}: use data.augment=none.")
        self.augment = change(augment)
        self.shape = shape
        self.task = task
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle_seed = shuffle_seed
        self.class_names: list[str] = []
        """Those of the data set, if it has any."""
        self.parts: Parts | None = None
        self.prepare: Callable[[Tensor], Tensor] = untouched
        self.rows: Callable[[int, int], int] = as_asked
        """Rows of a step, from batch_size and from how many there are at most; a method may have its own idea."""

    @abstractmethod
    def read(self) -> Parts:
        """The three parts; bytes are standardised batch by batch, floats are left as they are."""

    def prepare_data(self) -> None:
        """Read, in the first process of a node: a conversion happens here, and so do complaints about the files."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read all parts, once.

        Raises:
            ValueError: the data cannot be had, or the batch size does not fit the data and the processes.
        """
        if self.parts is None:
            self.parts = self.read()
            if self.parts.train.x.dtype == torch.uint8:
                self.prepare = Standardise(self.parts.train.x)
        self.train_dataloader()  # an impossible batch size is said before anything runs

    def train_dataloader(self) -> Loader:
        """Shuffled joint batches, of which this process reads its share."""
        assert self.parts
        rows = self.parts.train
        replica, replicas = self._replica()
        step = self.rows(self.batch_size, len(rows.y) // replicas * replicas)
        order = Shuffled(len(rows.y), step, self.shuffle_seed, replica, replicas)
        if self.augment is None:
            return Loader(rows, order, self.prepare)
        augment = Augmentation(self.augment, self.shuffle_seed, replica, replicas)
        return Loader(rows, order, self.prepare, augment)

    def val_dataloader(self) -> Loader:
        """All validation rows in order."""
        assert self.parts
        return self.in_order(self.parts.validation)

    def test_dataloader(self) -> Loader:
        """All test rows in order."""
        assert self.parts
        return self.in_order(self.parts.test)

    def in_order(self, rows: Rows) -> Loader:
        """Some rows in order, as they are for validation and test."""
        return Loader(rows, InOrder(len(rows.y), EVALUATION_ROWS, *self._replica()), self.prepare)

    def _replica(self) -> tuple[int, int]:
        """This process's number among the processes that share out batches, and how many those are."""
        share = self.trainer.distributed_sampler_kwargs if self.trainer else None
        return (share["rank"], share["num_replicas"]) if share else (0, 1)
