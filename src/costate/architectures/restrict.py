"""Restriction: n layers become m < n over the same time interval, with a time step of n/m times the length.

    θ_j   weights of layer j, a row of a stack: the value of a function of time θ(t) on the layer's interval
    θ̄_i   mean of θ(t) over the i-th of m equal parts of the whole interval

A weight belongs to the centre of its interval, so that a mean is right up to second differences. It is the weight of a
coarse network that predicts globally what the fine one corrects locally (Parpas & Muir, 1902.02542; multigrid's
restriction: Günther et al., 2020, 1812.04352). Restriction undoes a prolongation by copies.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Coarsening(NamedTuple):
    """How coarse a copy is.

    Attributes:
        factor: layers that become one, at most.
        step: the longest time step that these may make up, unless it is one layer's own.
    """

    factor: int
    step: float = math.inf

    def layers(self, n: int, h: float) -> int:
        """Of the copy of n layers with time step h."""
        return min(n, max(math.ceil(n / self.factor), math.ceil(n * h / self.step - 1e-9)))


@torch.no_grad()
def restrict(θ: Float[Tensor, "n ..."], m: int) -> Float[Tensor, "m ..."]:
    """θ̄: where m divides n, means over n/m neighbours; a part that ends within a layer has its share."""
    n = len(θ)
    if n % m == 0:
        return θ.unflatten(0, (m, n // m)).mean(dim=1)
    ends = torch.arange(m + 1, dtype=θ.dtype, device=θ.device) * (n / m)
    begins = torch.arange(n, dtype=θ.dtype, device=θ.device)
    overlap = torch.minimum(ends[1:, None], begins + 1) - torch.maximum(ends[:-1, None], begins)
    return torch.tensordot(overlap.clamp_min(0) * (m / n), θ, dims=1)
