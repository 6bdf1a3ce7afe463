"""The workers of parallel variable distribution, each a rank of torch.distributed."""

from collections.abc import Callable, Sequence
from typing import final

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from costate.pvd import Result, Team


@final
class OneEach(Team):
    """Rank l does the work of worker l, and tells all others."""

    def results(self, work: Callable[[int], Result], p: int) -> list[Result]:
        z, value, mu, seconds = work(dist.get_rank())
        points = _gather(z, p)
        numbers = _gather(torch.tensor([value, seconds, *mu], dtype=torch.float64, device=z.device), p)
        told = [row.tolist() for row in numbers]
        return [Result(z, value, mu, seconds) for z, (value, seconds, *mu) in zip(points, told, strict=True)]

    def agree(self, decision: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Rank 0's: where processors differ, so may the last bits of what they have found."""
        dist.broadcast(decision, src=0)
        return decision

    def busy(self, seconds: Sequence[float]) -> float:
        return max(seconds)

    def mean(self, numbers: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Every rank has all samples."""
        return numbers


def _gather(message: Tensor, p: int) -> list[Tensor]:
    parts = [torch.empty_like(message) for _ in range(p)]
    dist.all_gather(parts, message)
    return parts
