"""Forward Euler: Y ← Y + h σ(Y K + b)."""

from typing import final

from torch import Tensor

from costate.architectures.fields import Field
from costate.architectures.integrators import Euler


@final
class Resnet(Euler):
    """Y ← Y + h σ(Y K + b) (He et al., 2016; E, 2017)."""

    def weights(self, field: Field) -> Tensor:
        return field.K
