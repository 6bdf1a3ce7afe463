"""Statistics of a batch that several ranks share, from what each has of its own rows."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Gather = Callable[[Tensor], Tensor]
"""(numbers,) of every rank that shares a batch -> (ranks, numbers)."""


def joint_moments(
    x: Float[Tensor, "batch width ..."], gather: Gather
) -> tuple[Float[Tensor, ""], Float[Tensor, " width"], Float[Tensor, " width"]]:
    """Number, mean m and variance v of a channel's values on all ranks r, from one exchange.

    m = Σ_r n_r m_r / n,  v = Σ_r (S_r + n_r (m_r − m)²) / n,  S_r = Σ (x − m_r)² on r (Chan, Golub & LeVeque, 1983):
    no difference of large squares, which would lose digits. In float32 at least: n itself would be another in bfloat16.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    across, width = [0, *range(2, x.ndim)], x.shape[1]
    centre = x.mean(across)
    spread = (x - centre.view(-1, *(1,) * (x.ndim - 2))).square().sum(across)
    row = torch.cat([x.new_tensor([x.numel() / width]), centre, spread])
    share, centre, spread = gather(row).split([1, width, width], dim=1)
    n = share.sum()
    m = (share * centre).sum(0) / n
    return n, m, (spread + share * (centre - m).square()).sum(0) / n
