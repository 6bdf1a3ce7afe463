"""The data module that all data sets share: three disjoint parts in memory, and a loader for each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from lightning.pytorch import LightningDataModule
from torch import Tensor

from costate.config.settings import Count, Size
from costate.core.tasks import Task
from costate.core.types import Shape
from costate.data.augment import Augmentation, Change
from costate.data.batches import InOrder, Loader, Rows, Shuffled, generator, reading, share
from costate.data.store import Pages

EVALUATION_ROWS = 500  # rows in a batch of validation and test; no result depends on it


class Parts(NamedTuple):
    """Three parts without a common row."""

    train: Rows
    validation: Rows
    test: Rows


class Standardise:
    """To floats of mean 0 and variance 1 per channel: x ← (x − μ) / σ, with μ, σ of the rows it is made from.

    `mean` and `deviation` are these numbers, channel by channel.

    Args:
        x: (rows, channels, ...) bytes, in memory or in a file; or floats, of a table (rows, columns).
        shape: of a row, if it is to be another one.
    """

    def __init__(self, x: Shaped[Tensor, "rows channels *place"] | Pages, shape: Shape | None = None):
        if isinstance(x, Pages):
            mean, deviation = _of_bytes(x.pieces())
        elif x.dtype == torch.uint8:
            mean, deviation = _of_bytes([x])
        else:
            deviation, mean = torch.std_mean(x.double(), [0, *range(2, x.ndim)], correction=0)
        deviation[deviation <= 1e-12 * mean.abs()] = 1  # a channel that never changes, but for rounding
        self.mean, self.deviation = mean.tolist(), deviation.tolist()
        column = (len(mean), *(1 for _ in x[:1].shape[2:]))
        self.scale = (1 / deviation).float().view(column).numpy()
        self.shift = (-mean / deviation).float().view(column).numpy()
        self.shape = tuple(x[:1].shape[1:]) if shape is None else shape

    def __call__(self, x: Shaped[Tensor, "batch channels *place"]) -> Float[Tensor, "batch *shape"]:
        batch = torch.empty(x.shape)
        values = batch.numpy()  # on one thread, see `gather`
        np.copyto(values, x.numpy())
        values *= self.scale
        values += self.shift
        return batch.view(len(x), *self.shape)


def _of_bytes(pieces: Iterable[UInt8[Tensor, "_ channels *place"]]) -> tuple[Tensor, Tensor]:
    """μ and σ of each channel, of all pieces together."""
    value = torch.arange(256, dtype=torch.float64)
    # How often each channel has each value; these are integers, so μ and σ do not depend on the order of summation.
    counts = [torch.stack([torch.bincount(c.flatten(), minlength=256) for c in x.unbind(1)]).double() for x in pieces]
    part = torch.stack(counts).sum(0)
    part /= part.sum(1, keepdim=True)
    mean = part @ value
    return mean, ((part @ value**2) - mean**2).clamp_min(0).sqrt()


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


def _check_numbers(parts: Parts) -> None:
    """Whether all numbers are finite: a single one that is not makes every weight NaN in the step that reads it."""
    for part, rows in parts._asdict().items():
        for what, values in (("samples", rows.x), ("labels", rows.y)):
            # Bytes and classes are whole numbers, be they in memory or in a file.
            real = isinstance(values, Tensor) and values.is_floating_point()
            bad = ~values.isfinite().view(len(values), -1).all(1) if real else torch.zeros(0)
            if bad.any():
                raise ValueError(
                    f"The {part} {what} have numbers that are NaN or infinite in {int(bad.sum())} of {len(bad)} rows, "
                    f"first in row {int(bad.nonzero()[0, 0])}: mend these rows, or leave them out."
                )


@dataclass(kw_only=True, eq=False)
class Data(LightningDataModule, ABC):
    """What is learned from. A subclass is a dataclass whose fields are its settings, and describes its samples.

    Args:
        batch_size: training rows in a step, of all processes together.
        seed: of the division into parts, or of what is drawn.
        shuffle_seed: of the order of training batches.

    Attributes:
        shape: of one sample.
        task: what is learned from it.
        rows: of a step, from batch_size and from how many there are at most; a method may have its own idea.
    """

    batch_size: Count
    seed: Size
    shuffle_seed: Size

    def describe(self, shape: Shape, task: Task) -> None:
        """Says what samples are, and what is learned from them."""
        super().__init__()
        self.shape, self.task = shape, task
        self.rows: Callable[[int, int], int] = lambda batch_size, most: batch_size

    def samples(self) -> dict[str, Any]:
        """What has to be known of the samples to use a network that is trained on them, when they have been read."""
        return {"shape": list(self.shape), "outputs": self.task.outputs}

    def val_dataloader(self) -> Loader:
        return self.in_order("validation")

    def test_dataloader(self) -> Loader:
        return self.in_order("test")

    @abstractmethod
    def in_order(self, part: str) -> Loader:
        """All of validation or test, the same batches every time."""


@dataclass(kw_only=True, eq=False)
class InMemory(Data):
    """A data set held in memory; batches are (x float (batch, *shape), y).

    Attributes:
        standardised: whether floats are brought to mean 0 and variance 1 per column, by the training rows, as bytes
            always are; for tables whose columns have units of their own.
        class_names: those of the data set, if it has any.
    """

    standardised: ClassVar[bool] = False

    def describe(self, shape: Shape, task: Task) -> None:
        super().describe(shape, task)
        self.change: Change | None = None
        """How pictures of training batches are changed."""
        self.class_names: list[str] = []
        self.parts: Parts | None = None
        self.prepare: Callable[[Tensor], Tensor] = lambda x: x

    def samples(self) -> dict[str, Any]:
        found = super().samples() | {"classes": self.class_names}
        if isinstance(self.prepare, Standardise):
            found |= {"mean": self.prepare.mean, "deviation": self.prepare.deviation}
        return found

    @abstractmethod
    def read(self) -> Parts:
        """The three parts; bytes are standardised batch by batch, floats if `standardised` says so."""

    def prepare_data(self) -> None:
        """Read, in the first process of a node: a conversion happens here, and so do complaints about the files."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read all parts, once.

        Raises:
            ValueError: the data cannot be had or has numbers that are none, or the batch size does not fit the data
                and the processes.
        """
        if self.parts is None:
            self.parts = self.read()
            _check_numbers(self.parts)
            if self.standardised or self.parts.train.x.dtype == torch.uint8:
                self.prepare = Standardise(self.parts.train.x, self.shape)
        self.train_dataloader()  # an impossible batch size is said before anything runs

    def train_dataloader(self) -> Loader:
        """Shuffled joint batches, of which this process reads its share."""
        assert self.parts
        rows, (replica, replicas) = self.parts.train, share(self)
        step = self.rows(self.batch_size, len(rows.y) // replicas * replicas)
        order = Shuffled(len(rows.y), step, self.shuffle_seed, replica, replicas)
        augment = self.change and Augmentation(self.change, self.shuffle_seed, replica, replicas)
        return reading(rows, order, self.prepare, augment)

    def in_order(self, part: str) -> Loader:
        assert self.parts
        rows = self.parts._asdict()[part]
        return reading(rows, InOrder(len(rows.y), EVALUATION_ROWS, *share(self)), self.prepare)
