"""Batch norm of n layers, their parameters and running statistics stacked on axis 0."""

from collections.abc import Callable
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from costate.core.joint import Gather, joint_moments

MOMENTUM, EPS = 0.1, 1e-5


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

    def rule(self, track: bool = True) -> Callable[[int, Tensor, Tensor], Callable[[Tensor], Tensor]]:
        """The norm of layer j under a scale and a shift, a function of (batch, width, ...), as it would be done now.

        Args:
            track: whether running statistics move in training; where a batch is seen once more, they have done so.
        """
        rule = partial(alone, self.training, track)
        if self.training and self.gather is not None:
            rule = partial(jointly, self.gather, track)
        mean, var = self.get_buffer("mean"), self.get_buffer("var")
        return lambda j, scale, shift: partial(rule, scale, shift, mean[j], var[j])

    def forward(self, x: Float[Tensor, "batch width ..."]) -> Float[Tensor, "batch width ..."]:
        """The norm of a single layer."""
        return self.rule()(0, self.scale[0], self.shift[0])(x)


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
            mean.lerp_(centre.to(mean.dtype), MOMENTUM)
            var.lerp_((spread * n / (n - 1)).to(var.dtype), MOMENTUM)
    along = (-1, *(1,) * (x.ndim - 2))
    normal = (x - centre.view(along)) * (scale * torch.rsqrt(spread + EPS)).view(along) + shift.view(along)
    return normal.to(x.dtype)
