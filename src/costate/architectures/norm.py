"""Batch norm of n layers, their parameters and running statistics stacked on axis 0."""

from collections.abc import Callable
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MOMENTUM, EPS = 0.1, 1e-5
Gather = Callable[[Tensor], Tensor]


@final
class Norm(nn.Module):
    """x ← scale (x − mean) / √(var + ε) + shift, mean and variance over batch and pixels (Ioffe & Szegedy, 2015).

    Attributes:
        gather: (numbers,) of every rank that shares a batch -> (ranks, numbers), differentiable; None if this process
            has all of it. With it, the statistics are those of the joint batch, whatever each rank's share of it is.
    """

    gather: Gather | None = None

    def __init__(self, layers: int, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(layers, width))
        self.shift = nn.Parameter(torch.zeros(layers, width))
        self.register_buffer("mean", torch.zeros(layers, width))
        self.register_buffer("var", torch.ones(layers, width))

    def unbind(self, track: bool = True) -> list[Callable[[Tensor], Tensor]]:
        """The norm of each layer: a function of (batch, width, ...).

        Args:
            track: whether running statistics move in training; where a batch is seen once more, they have done so.
        """
        stacks = (self.scale, self.shift, self.get_buffer("mean"), self.get_buffer("var"))
        rule = self.rule(track)
        return [partial(rule, *of_layer) for of_layer in zip(*(s.unbind(0) for s in stacks), strict=True)]

    def again(self) -> Callable[[int, Tensor, Tensor], Callable[[Tensor], Tensor]]:
        """Layer j under another scale and shift, for a batch that it has seen, as it would be done now."""
        rule, mean, var = self.rule(track=False), self.get_buffer("mean"), self.get_buffer("var")
        return lambda j, scale, shift: partial(rule, scale, shift, mean[j], var[j])

    def rule(self, track: bool = True) -> Callable[..., Tensor]:
        """A layer's norm, from its scale, shift, mean, var and what goes in, as it would be done now."""
        if self.training and self.gather is not None:
            return partial(jointly, self.gather, track)
        return partial(alone, self.training, track)

    def forward(self, x: Float[Tensor, "batch width ..."]) -> Float[Tensor, "batch width ..."]:
        """The norm of a single layer."""
        (normalise,) = self.unbind()
        return normalise(x)


def alone(
    training: bool, track: bool, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor, x: Float[Tensor, "batch ..."]
) -> Tensor:
    """The norm of one layer; in training with the statistics of this process's rows.

    Raises:
        ValueError: in training there is but one value of each channel.
    """
    if training and x.numel() == x.shape[1]:
        raise ValueError(
            "Batch norm takes a mean over the batch, and this batch has one value of each channel: raise "
            "data.batch_size, or train without batch norm (arch.norm=false)."
        )
    if training and not track:
        return F.batch_norm(x, None, None, scale, shift, True, MOMENTUM, EPS)
    return F.batch_norm(x, mean, var, scale, shift, training, MOMENTUM, EPS)


def jointly(
    gather: Gather, track: bool, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor, x: Float[Tensor, "batch ..."]
) -> Tensor:
    """The norm of one layer in training, with the statistics of the joint batch."""
    n, centre, spread = joint_moments(x, gather)
    if track:
        with torch.no_grad():
            mean.lerp_(centre, MOMENTUM)
            var.lerp_(spread * n / (n - 1), MOMENTUM)
    along = (-1, *(1,) * (x.ndim - 2))
    return (x - centre.view(along)) * (scale * torch.rsqrt(spread + EPS)).view(along) + shift.view(along)


def joint_moments(
    x: Float[Tensor, "batch width ..."], gather: Gather
) -> tuple[Float[Tensor, ""], Float[Tensor, " width"], Float[Tensor, " width"]]:
    """Number, mean m and variance v of a channel's values on all ranks r, from one exchange.

    m = Σ_r n_r m_r / n,  v = Σ_r (S_r + n_r (m_r − m)²) / n,  S_r = Σ (x − m_r)² on r (Chan, Golub & LeVeque, 1983):
    no difference of large squares, which would lose digits.
    """
    across, width = [0, *range(2, x.ndim)], x.shape[1]
    centre = x.mean(across)
    spread = (x - centre.view(-1, *(1,) * (x.ndim - 2))).square().sum(across)
    row = torch.cat([x.new_tensor([x.numel() / width]), centre, spread])
    share, centre, spread = gather(row).split([1, width, width], dim=1)
    n = share.sum()
    m = (share * centre).sum(0) / n
    return n, m, (spread + share * (centre - m).square()).sum(0) / n
