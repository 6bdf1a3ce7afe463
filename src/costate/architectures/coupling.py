"""A layer that can be undone, whatever is inside of it.

    (a, b) ← (b, a + F(b))        back: (a, b) ← (b − F(a), a)

a and b are halves of the state's axis 1. Two of these make a block of Gomez et al. (2017), The reversible residual
network, 1707.04585; one is a layer of Rivaud et al. (2025), PETRA, 2406.02052.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn


@final
class Coupling(nn.Module):
    """(a, b) ← (b, a + F(b)).

    Args:
        residual: F, from half of the channels to as many.
    """

    def __init__(self, residual: nn.Module):
        super().__init__()
        self.residual = residual

    def forward(self, x: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels ..."]:
        a, b = x.chunk(2, dim=1)
        return torch.cat([b, a + self.residual(b.contiguous())], dim=1)

    def inverse(self, x: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels ..."]:
        a, b = x.chunk(2, dim=1)
        return torch.cat([b - self.residual(a.contiguous()), a], dim=1)
