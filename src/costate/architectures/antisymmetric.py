"""Forward Euler with an antisymmetric field: Y ← Y + h σ(½ Y (K − Kᵀ − γ I) + b)."""

from typing import final

import torch
from torch import Tensor

from costate.architectures.fields import Field, Layer
from costate.architectures.integrators import Integrator
from costate.settings import Amount


@final
class Antisymmetric(Integrator):
    """Y ← Y + h σ(½ Y (K − Kᵀ − γ I) + b) (Haber & Ruthotto, 2017, section 4.1).

    Eigenvalues of the field's Jacobian have real part ≤ 0 (without batch norm, which rescales by a sign of its own).

    Args:
        gamma: γ ≥ 0, damping that makes up for Euler's growth on the imaginary axis.
    """

    fields = 1
    evaluations = 1

    def __init__(self, *, gamma: Amount):
        self.gamma = gamma

    def weights(self, field: Field) -> Tensor:
        return field.skew(self.gamma)

    def step(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        (Y,) = state
        return (torch.add(Y, layer(Y), alpha=layer.h),)
