"""A reversible network of one's own, symmetric: Y ← Y + ½ h V;  V ← V − h σ(Y K + b) Kᵀ;  Y ← Y + ½ h V."""

from typing import final

from costate.architectures.fields import Composed, Layer
from costate.architectures.integrators import Reversible, Shear

Y, V = 0, 1


@final
class Drift(Reversible):
    """Y ← Y + ½ h V;  V ← V − h σ(Y K + b) Kᵀ;  Y ← Y + ½ h V (drift, kick, drift; Tuckerman et al., 1992)."""

    evaluations = 1
    staggered = False

    def shears(self, layer: Layer) -> tuple[Shear, ...]:
        half = layer.h / 2
        return Shear(Y, V, half, Composed()), Shear(V, Y, -layer.h, layer.force), Shear(Y, V, half, Composed())
