"""Verlet: Z ← Z − h σ(Y Kᵀ + b);  Y ← Y + h σ(Z K + b)."""

from typing import final

import torch
from torch import Tensor

from costate.architectures.fields import Layer
from costate.architectures.integrators import Reversible


@final
class Verlet(Reversible):
    """Z ← Z − h σ(Y Kᵀ + b);  Y ← Y + h σ(Z K + b) (Haber & Ruthotto, 2017, section 4.2; Chang et al., 2018).

    Args:
        half_start: the first step of Z is h/2, Z lives at half steps, and Y is of order 2.
    """

    evaluations = 2

    def __init__(self, *, half_start: bool):
        self.half_start = half_start

    def step(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        Y, Z = state
        Z = torch.add(Z, layer.transposed(Y), alpha=-layer.kick)
        Y = torch.add(Y, layer(Z), alpha=layer.h)
        return Y, Z

    def inverse(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        Y, Z = state
        Y = torch.add(Y, layer(Z), alpha=-layer.h)
        Z = torch.add(Z, layer.transposed(Y), alpha=layer.kick)
        return Y, Z
