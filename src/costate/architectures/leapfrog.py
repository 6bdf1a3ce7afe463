"""Leapfrog: V ← V − h σ(Y K + b) Kᵀ;  Y ← Y + h V.

The two-step form Y_{j+1} = 2 Y_j − Y_{j−1} − h² σ(Y_j K + b) Kᵀ with V_j = (Y_j − Y_{j−1}) / h, so that the state has a
limit as h → 0.
"""

from typing import final

from costate.architectures.fields import Composed, Layer
from costate.architectures.integrators import Reversible, Shear

Y, V = 0, 1


@final
class Leapfrog(Reversible):
    """V ← V − h σ(Y K + b) Kᵀ;  Y ← Y + h V (Chang et al., 2018, "MidPoint" and "Leapfrog"; Haber & Ruthotto, 2017).

    Args:
        half_start: the first step of V is h/2, V lives at half steps, and Y is of order 2.
    """

    evaluations = 1

    def __init__(self, *, half_start: bool):
        self.half_start = half_start

    def shears(self, layer: Layer) -> tuple[Shear, ...]:
        return Shear(V, Y, -layer.kick, layer.force), Shear(Y, V, layer.h, Composed())
