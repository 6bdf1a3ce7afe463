"""Forward Euler with an antisymmetric field: Y ← Y + h σ(½ Y (K − Kᵀ − γ I) + b)."""

from typing import final

from torch import Tensor

from costate.architectures.fields import Field
from costate.architectures.integrators import Euler
from costate.config.settings import Amount


@final
class Antisymmetric(Euler):
    """Y ← Y + h σ(½ Y (K − Kᵀ − γ I) + b) (Haber & Ruthotto, 2017, section 4.1).

    Eigenvalues of the field's Jacobian have real part ≤ 0 (without batch norm, which rescales by a sign of its own).

    Args:
        gamma: γ ≥ 0, damping that makes up for Euler's growth on the imaginary axis.
    """

    def __init__(self, *, gamma: Amount):
        self.gamma = gamma

    def weights(self, field: Field) -> Tensor:
        return field.skew(self.gamma)
