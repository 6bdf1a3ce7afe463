"""Sequences to be remembered: copy and repeat copy (Graves et al., 2014; Jaderberg et al., 2017, section 3.1)."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from costate.core.tasks import SILENT
from costate.data.drawn import Drawn


@final
class Copy(Drawn):
    """N symbols, a mark, and then they are asked for in their order: 2 N + 1 steps; the length is N."""

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
