"""Data as users would bring it: Datasets of torch, a LightningDataModule."""

import random
from collections.abc import Iterator

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

ROWS = 120


def _rows(rows: int, seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(256, (rows, *shape), generator=torch.Generator().manual_seed(seed)).byte()


def pictures(rows: int = ROWS) -> tuple[Dataset, Dataset]:
    return (
        TensorDataset(_rows(rows, 0, 1, 4, 4), torch.arange(rows) % 3),
        TensorDataset(_rows(10, 1, 1, 4, 4), torch.arange(10) % 3),
    )


def three() -> list[Dataset]:
    return [TensorDataset(_rows(n, n, 5).double(), torch.randn(n)) for n in (20, 6, 4)]


class Numbers(LightningDataModule):
    """Without a test part; shuffles, leaves out a last batch, and makes its samples only when it is set up."""

    def setup(self, stage: str) -> None:
        self.rows = _rows(20, 0, 5).float()

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.rows, self.rows[:, :2]), batch_size=7, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.rows[:6] + 1, self.rows[:6, :2]), batch_size=4)


class Sampled(LightningDataModule):
    """Three loaders of one Dataset, each with a sampler for its rows."""

    def __init__(self, batched: bool = False):
        super().__init__()
        self.batched = batched

    def loader(self, *rows: int) -> DataLoader:
        data, sampler = numbered(40), SubsetRandomSampler(range(*rows))
        if self.batched:
            return DataLoader(data, batch_sampler=BatchSampler(sampler, 4, False))
        return DataLoader(data, batch_size=4, sampler=sampler)

    def train_dataloader(self) -> DataLoader:
        return self.loader(30)

    def val_dataloader(self) -> DataLoader:
        return self.loader(30, 34)

    def test_dataloader(self) -> DataLoader:
        return self.loader(34, 40)


def numbered(rows: int) -> Dataset:
    return TensorDataset(torch.arange(rows)[:, None].float(), torch.arange(rows) % 3)


def whole() -> list[DataLoader]:
    """Samplers that draw out of all rows, out of the first five, or for one process of two."""
    data = numbered(12)
    drawn = RandomSampler(data, replacement=True, num_samples=50), RandomSampler(range(5))
    return [DataLoader(data, sampler=each) for each in (*drawn, DistributedSampler(data, 2, 0))]


def weighted() -> list[DataLoader]:
    return [DataLoader(numbered(12), sampler=WeightedRandomSampler([1.0, 2.0] * 6, 12))] * 2


def endless() -> list[DataLoader]:
    class Endless(Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            while True:
                yield from range(12)

    return [DataLoader(numbered(12), sampler=Endless())] * 2


def batches() -> list[DataLoader]:
    class Batches(BatchSampler):
        def __iter__(self) -> Iterator[list[int]]:
            return iter([[0, 1], [0, 2]])

    return [DataLoader(numbered(12), batch_sampler=Batches(range(12), 2, False))] * 2


def texts() -> tuple[list, list]:
    return ["a", "b"], ["c"]


def strings() -> tuple[Dataset, Dataset]:
    class Strings(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, i: int) -> tuple[str, int]:
            return "a", i

    return Strings(), Strings()


def _pairs(rows: int, columns: int, first: int = 0) -> Dataset:
    return TensorDataset(torch.zeros(rows, columns), torch.arange(rows) % 3 + first)


def more() -> tuple[Dataset, Dataset]:
    return _pairs(12, 2), _pairs(6, 2, 1)


def shapes() -> tuple[Dataset, Dataset]:
    return _pairs(12, 2), _pairs(6, 1)


def kinds() -> tuple[Dataset, Dataset]:
    return _pairs(12, 2), TensorDataset(torch.zeros(6, 2), torch.zeros(6))


def bytes_and_floats() -> tuple[Dataset, Dataset, Dataset]:
    return TensorDataset(torch.zeros(12, 2).byte(), torch.arange(12)), _pairs(6, 2), _pairs(6, 2)


def negative_test() -> tuple[Dataset, Dataset]:
    return _pairs(12, 2), _pairs(4, 2, -1)


def negative() -> tuple[Dataset, Dataset]:
    part = TensorDataset(torch.zeros(4, 2), torch.arange(4) - 1)
    return part, part


def nothing() -> None:
    return None


def divided() -> tuple[Dataset, Dataset]:
    """The rows 0 to 59, divided as people do: with torch, numpy and Python's own generator."""
    order = list(range(60))
    random.shuffle(order)
    first, second = map(list, random_split(np.random.permutation(order).tolist(), [40, 20]))
    return _numbered(first), _numbered(second)


def _numbered(rows: list[int]) -> Dataset:
    numbers = torch.tensor(rows)
    return TensorDataset(numbers[:, None].float(), numbers % 3)
