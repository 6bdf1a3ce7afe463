"""The adding problem (Hochreiter & Schmidhuber, 1997): two marked numbers of a sequence are to be added up.

x_t = (u_t, m_t)   u_t uniform in [0, 1]; m_t is 1 at one step of each half, else 0
y   = Σ_t m_t u_t  asked for at the last step; its variance is 1/6: to know nothing costs 0.167
"""

from typing import final

import torch

from costate.config.settings import Count, Size
from costate.core.tasks import AtEnd, Regression
from costate.data.batches import Rows, generator
from costate.data.memory import InMemory, Parts


@final
class Adding(InMemory):
    """Sequences of one length, drawn by a seed.

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
