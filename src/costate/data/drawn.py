"""Sequences that are drawn for each batch, of a length that may grow while a network learns.

No two batches are the same ones, and what is drawn depends on the seed, the epoch and the batch alone: a resumed run
goes on with the batches that an uninterrupted one would have.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningDataModule
from torch import Tensor

from costate.config.settings import Count, Size
from costate.core.tasks import Symbols
from costate.core.types import Shape
from costate.data.batches import generator
from costate.data.places import Places

HELD, TESTED = 1, 2
"""What validation and test sequences are drawn with beside the seed; training ones with 0."""


class Drawn(LightningDataModule, ABC):
    """Symbols to be remembered, at every length from 1 to `longest`; training sequences are `length` long.

    x_t is a symbol as one-hot with a mark beside it, y_t the symbol that is asked for, or -1 where none is.

    Args:
        symbols: that there are; with two of them each has one bit.
        longest: the greatest length.
        length: at which training begins.
        batches: in an epoch.
        batch_size: rows of a training batch, of all processes together.
        validation: rows of each length, for validation and again for the test.
        seed: of validation and test sequences.
        shuffle_seed: of training ones.

    Attributes:
        length: of training sequences, from the next batch on; it is the curriculum's to change.

    Raises:
        ValueError: training is to begin with what is longer than the longest.
    """

    def __init__(
        self,
        *,
        symbols: Count,
        longest: Count,
        length: Count,
        batches: Count,
        batch_size: Count,
        validation: Count,
        seed: Size,
        shuffle_seed: Size,
    ):
        super().__init__()
        if length > longest:
            raise ValueError(f"data.length={length} is more than data.longest={longest}: begin with less.")
        self.shape: Shape = (self.steps(longest), symbols + 1)
        self.task, self.symbols = Symbols(symbols), symbols
        self.longest, self.length, self.batches, self.batch_size = longest, length, batches, batch_size
        self.validation, self.seed, self.shuffle_seed = validation, seed, shuffle_seed
        self.rows: Any = None

    @abstractmethod
    def steps(self, length: int) -> int:
        """Of a sequence of this length."""

    @abstractmethod
    def draw(
        self, rows: int, length: int, random: torch.Generator
    ) -> tuple[Float[Tensor, "rows steps features"], Int[Tensor, "rows steps"]]:
        """So many sequences, and what is asked for at their steps."""

    def train_dataloader(self) -> Places:
        return _Fresh(self, *self._replica())

    def val_dataloader(self) -> Places:
        return _EachLength(self, HELD)

    def test_dataloader(self) -> Places:
        return _EachLength(self, TESTED)

    def state_dict(self) -> dict[str, Any]:
        return {"length": self.length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.length = state_dict["length"]

    def _replica(self) -> tuple[int, int]:
        share = self.trainer.distributed_sampler_kwargs if self.trainer else None
        r, R = (share["rank"], share["num_replicas"]) if share else (0, 1)
        if self.batch_size % R:
            raise ValueError(
                f"data.batch_size={self.batch_size} cannot be shared out evenly among {R} processes: choose a multiple "
                f"of {R}."
            )
        return r, R


class _Fresh(Places):
    """Training batches."""

    def __init__(self, data: Drawn, replica: int, replicas: int):
        super().__init__()
        self.data, self.replica, self.replicas = data, replica, replicas

    def __len__(self) -> int:
        return self.data.batches

    def batches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        data = self.data
        for i in range(start, len(self)):
            random = generator(data.shuffle_seed, 0, self.epoch, i)
            x, y = data.draw(data.batch_size, data.length, random)
            yield x[self.replica :: self.replicas], y[self.replica :: self.replicas]


class _EachLength(Places):
    """A batch of each length, the same ones every time; all processes look at all of them."""

    def __init__(self, data: Drawn, part: int):
        super().__init__()
        self.data, self.part = data, part

    def __len__(self) -> int:
        return self.data.longest

    def batches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        for length in range(start + 1, len(self) + 1):
            yield self.data.draw(self.data.validation, length, generator(self.data.seed, self.part, length))
