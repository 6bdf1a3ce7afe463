"""Sequences: symbols that are to be remembered, numbers to be added up, and images read step by step.

Symbols are drawn for each batch, of a length that may grow while a network learns. No two batches are the same ones,
and what is drawn depends on the seed, the epoch and the batch alone: a resumed run goes on with the batches that an
uninterrupted one would have.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Literal, final

import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn import functional as F

from costate.config.settings import Count, Size
from costate.core.tasks import SILENT, AtEnd, Classification, Regression, Symbols
from costate.core.types import Shape
from costate.data.batches import Batch, Places, Rows, check_share, generator, share
from costate.data.images import Images, Mnist
from costate.data.memory import InMemory, Parts

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
        r, R = share(self)
        check_share(self.batch_size, R)

        def fresh(epoch: int, i: int) -> Batch:
            x, y = self.draw(self.batch_size, self.length, generator(self.shuffle_seed, 0, epoch, i))
            return x[r::R], y[r::R]

        return _Drawings(self.batches, fresh)

    def val_dataloader(self) -> Places:
        return self._each_length(HELD)

    def test_dataloader(self) -> Places:
        return self._each_length(TESTED)

    def _each_length(self, part: int) -> Places:
        """A batch of each length, the same ones every time; all processes look at all of them."""

        def same(epoch: int, i: int) -> Batch:
            return self.draw(self.validation, i + 1, generator(self.seed, part, i + 1))

        return _Drawings(self.longest, same)

    def state_dict(self) -> dict[str, Any]:
        return {"length": self.length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.length = state_dict["length"]


class _Drawings(Places):
    """So many batches, each drawn by its number when it is asked for."""

    def __init__(self, number: int, draw: Callable[[int, int], Batch]):
        super().__init__()
        self.number, self.draw = number, draw

    def __len__(self) -> int:
        return self.number

    def batches(self, start: int) -> Iterator[Batch]:
        return (self.draw(self.epoch, i) for i in range(start, len(self)))


@final
class Copy(Drawn):
    """N symbols, a mark, and then they are asked for in their order: 2 N + 1 steps; the length is N.

    Graves et al. (2014); Jaderberg et al. (2017), section 3.1.
    """

    def steps(self, length: int) -> int:
        return 2 * length + 1

    def draw(self, rows: int, length: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        return _repeated(rows, length, 1, 1.0, self.symbols, random)


@final
class RepeatCopy(Drawn):
    """N symbols, a mark whose height is R / 10, and then they are asked for R times: N + 1 + N R steps.

    The length is N + R − 1: they grow in turn, (N, R) = (1, 1), (2, 1), (2, 2), (3, 2), (3, 3), ...
    """

    def steps(self, length: int) -> int:
        N, R = turns(length)
        return N + 1 + N * R

    def draw(self, rows: int, length: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        N, R = turns(length)
        return _repeated(rows, N, R, R / 10, self.symbols, random)


def turns(length: int) -> tuple[int, int]:
    """N and R of a length of `RepeatCopy`."""
    return length // 2 + 1, (length + 1) // 2


def _repeated(rows: int, N: int, R: int, mark: float, symbols: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    drawn = torch.randint(symbols, (rows, N), generator=random)
    x = torch.zeros(rows, N + 1 + N * R, symbols + 1)
    x[:, :N, :symbols] = F.one_hot(drawn, symbols).float()
    x[:, N, symbols] = mark
    return x, torch.cat([torch.full((rows, N + 1), SILENT), drawn.repeat(1, R)], dim=1)


@final
class Adding(InMemory):
    """The adding problem (Hochreiter & Schmidhuber, 1997): two marked numbers of a sequence are to be added up.

    x_t = (u_t, m_t)   u_t uniform in [0, 1]; m_t is 1 at one step of each half, else 0
    y   = Σ_t m_t u_t  asked for at the last step; its variance is 1/6: to know nothing costs 0.167

    Args:
        length: steps of a sequence.
        train, validation, test: numbers of sequences.

    Raises:
        ValueError: there are fewer than two steps.
    """

    def __init__(
        self,
        *,
        length: Count,
        train: Count,
        validation: Count,
        test: Count,
        batch_size: Count,
        seed: Size,
        shuffle_seed: Size,
    ):
        if length < 2:
            raise ValueError(f"data.length={length} has no two steps to mark: choose 2 or more.")
        task = AtEnd(Regression(1))
        super().__init__((length, 2), task, batch_size=batch_size, seed=seed, shuffle_seed=shuffle_seed)
        self.length, self.sizes = length, [train, validation, test]

    def read(self) -> Parts:
        rows, half, random = sum(self.sizes), self.length // 2, generator(self.seed)
        x = torch.zeros(rows, self.length, 2)
        x[..., 0] = torch.rand(rows, self.length, generator=random)
        each = torch.arange(rows)
        for low, high in ((0, half), (half, self.length)):
            x[each, torch.randint(low, high, (rows,), generator=random), 1] = 1
        y = (x[..., 0] * x[..., 1]).sum(dim=1, keepdim=True)
        return Parts(*(Rows(*part) for part in zip(x.split(self.sizes), y.split(self.sizes), strict=True)))


@final
class SequentialMnist(Images):
    """MNIST as 28 steps of 28 pixels or as 784 steps of one; the class is asked for last (Le, Jaitly & Hinton, 2015).

    Args:
        by: what is read at a step.
    """

    source = Mnist.source

    def __init__(
        self,
        *,
        by: Literal["row", "pixel"],
        root: str,
        cache: str,
        download: bool,
        train: Count | None,
        validation: Count,
        batch_size: Count,
        seed: Size,
        shuffle_seed: Size,
    ):
        super().__init__(
            root=root,
            cache=cache,
            download=download,
            train=train,
            validation=validation,
            batch_size=batch_size,
            augment="none",
            seed=seed,
            shuffle_seed=shuffle_seed,
        )
        self.shape = (28, 28) if by == "row" else (784, 1)
        self.task = AtEnd(Classification(self.source.classes))
