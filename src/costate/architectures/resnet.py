"""Forward Euler: Y ← Y + h σ(Y K + b)."""

from typing import final

import torch
from torch import Tensor

from costate.architectures.fields import Field, Layer
from costate.architectures.integrators import Integrator


@final
class Resnet(Integrator):
    """Y ← Y + h σ(Y K + b) (He et al., 2016; E, 2017)."""

    fields = 1
    evaluations = 1

    def weights(self, field: Field) -> Tensor:
        return field.K

    def step(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        (Y,) = state
        return (torch.add(Y, layer(Y), alpha=layer.h),)
