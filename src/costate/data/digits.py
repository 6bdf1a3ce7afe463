"""Handwritten digits that come with scikit-learn: no files, no network."""

import torch
from sklearn.datasets import load_digits

from costate.config.settings import Count, Size
from costate.core.tasks import Classification
from costate.data.batches import Rows
from costate.data.memory import InMemory, Parts, divide


class Digits(InMemory):
    """1797 images of 8 × 8 with values 0 to 16, ten classes (Alpaydin & Kaynak, UCI, 1998).

    Args:
        train: training rows; null for all that validation and test leave.
        validation: rows held out for validation.
        test: rows held out for the test.

    Raises:
        ValueError: (on reading) the parts ask for more rows than there are.
    """

    def __init__(
        self,
        *,
        train: Count | None,
        validation: Count,
        test: Count,
        batch_size: Count,
        seed: Size,
        shuffle_seed: Size,
    ):
        super().__init__((1, 8, 8), Classification(10), batch_size=batch_size, seed=seed, shuffle_seed=shuffle_seed)
        self.sizes = train, validation, test

    def read(self) -> Parts:
        images, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(images).to(torch.uint8).view(-1, *self.shape)
        y = torch.from_numpy(labels).long()
        return Parts(*(Rows(x[part], y[part]) for part in divide(len(y), *self.sizes, self.seed)))
