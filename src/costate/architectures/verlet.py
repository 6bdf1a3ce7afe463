"""Verlet: Z ← Z − h σ(Y Kᵀ + b);  Y ← Y + h σ(Z K + b)."""

from typing import final

from costate.architectures.fields import Layer
from costate.architectures.integrators import Reversible, Shear

Y, Z = 0, 1


@final
class Verlet(Reversible):
    """Z ← Z − h σ(Y Kᵀ + b);  Y ← Y + h σ(Z K + b) (Haber & Ruthotto, 2017, section 4.2; Chang et al., 2018).

    Args:
        half_start: the first step of Z is h/2, Z lives at half steps, and Y is of order 2.
    """

    evaluations = 2

    def __init__(self, *, half_start: bool):
        self.half_start = half_start

    def shears(self, layer: Layer) -> tuple[Shear, ...]:
        return Shear(Z, Y, -layer.kick, layer.dual), Shear(Y, Z, layer.h, layer.f)
