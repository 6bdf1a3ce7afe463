"""Sequences: symbols that are to be remembered, numbers to be added up, and images read step by step.

Symbols are drawn for each batch, of a length that may grow while a network learns. No two batches are the same ones,
and what is drawn depends on the seed, the epoch and the batch alone: a resumed run goes on with the batches that an
uninterrupted one would have.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from costate.config.settings import Count
from costate.core.tasks import SILENT, AtEnd, Classification, Regression, Symbols
from costate.data.batches import Batch, Loader, Rows, check_share, generator, share
from costate.data.images import Images, Mnist
from costate.data.memory import Data, InMemory, Parts

SEEDS = {"validation": 1, "test": 2}
"""What their sequences are drawn with beside the seed; training ones with 0."""


@dataclass(kw_only=True, eq=False)
class Drawn(Data, ABC):
    """Symbols to be remembered, at every length from 1 to `longest`; training sequences are `length` long.

    x_t is a symbol as one-hot with a mark beside it, y_t the symbol that is asked for, or -1 where none is.

    Args:
        symbols: that there are; with two of them each has one bit.
        longest: the greatest length.
        length: at which training begins, and from then on that of the next batch; it is the curriculum's to change.
        batches: in an epoch.
        validation: rows of each length, for validation and again for the test.
        seed: of validation and test sequences.
        shuffle_seed: of training ones.

    Raises:
        ValueError: training is to begin with what is longer than the longest.
    """

    symbols: Count
    longest: Count
    length: Count
    batches: Count
    validation: Count

    def __post_init__(self) -> None:
        if self.length > self.longest:
            raise ValueError(f"data.length={self.length} is more than data.longest={self.longest}: begin with less.")
        self.describe((self.steps(self.longest), self.symbols + 1), Symbols(self.symbols, self.steps(self.longest)))

    @abstractmethod
    def steps(self, length: int) -> int:
        """Of a sequence of this length."""

    @abstractmethod
    def draw(
        self, rows: int, length: int, random: torch.Generator
    ) -> tuple[Float[Tensor, "rows steps features"], Int[Tensor, "rows steps"]]:
        """So many sequences, and what is asked for at their steps."""

    def train_dataloader(self) -> Loader:
        r, R = share(self)
        check_share(self.batch_size, R)

        def fresh(epoch: int, start: int) -> Iterator[Batch]:
            for i in range(start, self.batches):
                x, y = self.draw(self.batch_size, self.length, generator(self.shuffle_seed, 0, epoch, i))
                yield x[r::R], y[r::R]

        return Loader(self.batches, fresh)

    def in_order(self, part: str) -> Loader:
        """A batch of each length, the same ones every time; all processes look at all of them."""

        def same(epoch: int, start: int) -> Iterator[Batch]:
            for length in range(start + 1, self.longest + 1):
                yield self.draw(self.validation, length, generator(self.seed, SEEDS[part], length))

        return Loader(self.longest, same)

    def state_dict(self) -> dict[str, Any]:
        return {"length": self.length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.length = state_dict["length"]


class Repeated(Drawn, ABC):
    """N symbols, a mark, R / `full` high, and then they are asked for in their order R times: N + 1 + N R steps."""

    full: ClassVar[int]

    @staticmethod
    @abstractmethod
    def turns(length: int) -> tuple[int, int]:
        """N and R of a length."""

    def steps(self, length: int) -> int:
        N, R = self.turns(length)
        return N + 1 + N * R

    def draw(self, rows: int, length: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        N, R = self.turns(length)
        drawn = torch.randint(self.symbols, (rows, N), generator=random)
        x = torch.zeros(rows, self.steps(length), self.symbols + 1)
        x[:, :N, : self.symbols] = F.one_hot(drawn, self.symbols).float()
        x[:, N, self.symbols] = R / self.full
        return x, torch.cat([torch.full((rows, N + 1), SILENT), drawn.repeat(1, R)], dim=1)


@final
class Copy(Repeated):
    """Symbols are asked for once, R = 1; the length is N (Graves et al., 2014; Jaderberg et al., 2017, section 3.1)."""

    full = 1

    @staticmethod
    def turns(length: int) -> tuple[int, int]:
        return length, 1


@final
class RepeatCopy(Repeated):
    """N and R grow in turn, (N, R) = (1, 1), (2, 1), (2, 2), (3, 2), (3, 3), ...; the length is N + R − 1, and the mark
    R / 10 high.
    """

    full = 10

    @staticmethod
    def turns(length: int) -> tuple[int, int]:
        return length // 2 + 1, (length + 1) // 2


@final
@dataclass(kw_only=True, eq=False)
class Adding(InMemory):
    """The adding problem (Hochreiter & Schmidhuber, 1997): two marked numbers of a sequence are to be added up.

    x_t = (u_t, m_t)   u_t uniform in [0, 1]; m_t is 1 at one step of each half, else 0
    y   = Σ_t m_t u_t  asked for at the last step; its variance is 1/6: to know nothing costs 0.167

    A sequence has `length` steps; `train`, `validation` and `test` are numbers of sequences.

    Raises:
        ValueError: there are fewer than two steps.
    """

    length: Count
    train: Count
    validation: Count
    test: Count

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(f"data.length={self.length} has no two steps to mark: choose 2 or more.")
        self.describe((self.length, 2), AtEnd(Regression(1)))

    def read(self) -> Parts:
        sizes, half, random = [self.train, self.validation, self.test], self.length // 2, generator(self.seed)
        rows = sum(sizes)
        x = torch.zeros(rows, self.length, 2)
        x[..., 0] = torch.rand(rows, self.length, generator=random)
        each = torch.arange(rows)
        for low, high in ((0, half), (half, self.length)):
            x[each, torch.randint(low, high, (rows,), generator=random), 1] = 1
        y = (x[..., 0] * x[..., 1]).sum(dim=1, keepdim=True)
        return Parts(*(Rows(*part) for part in zip(x.split(sizes), y.split(sizes), strict=True)))


@final
@dataclass(kw_only=True, eq=False)
class SequentialMnist(Images):
    """MNIST as 28 steps of 28 pixels or as 784 of one; the class is asked for last (Le, Jaitly & Hinton, 2015)."""

    source = Mnist.source
    by: Literal["row", "pixel"]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shape = (28, 28) if self.by == "row" else (784, 1)
        self.task = AtEnd(Classification(self.source.classes))
