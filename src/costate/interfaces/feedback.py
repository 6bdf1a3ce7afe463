"""Direct feedback alignment: the output's error, by a fixed random map, in place of a gradient.

    e   error ∂ℓ/∂output                      (batch, outputs)
    B   drawn once, normal with variance 1/outputs
    g used = e B                              (batch, *shape)

Nøkland (2016), Direct feedback alignment provides learning in deep neural networks, 1609.01596.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from costate.interfaces.base import Interface
from costate.types import Labels, Shape, State


class Feedback(Interface):
    """Answers the error's image under B; the layers learn to align themselves with it."""

    B: Float[Tensor, "outputs features"]

    def __init__(self, shape: Shape, outputs: int):
        super().__init__()
        self.register_buffer("B", torch.randn(outputs, torch.Size(shape).numel()) / outputs**0.5)

    def gradient(self, h: State, y: Labels, arrived: Tensor | None, n: int) -> Tensor:
        assert arrived is not None, "the error comes up by the post"
        return (arrived.to(self.B.dtype) @ self.B).view_as(h).to(h.dtype)
