"""Interfaces that learn nothing and ask nobody: they answer what came up, or nothing."""

import torch
from jaxtyping import Float
from torch import Tensor

from costate.core.interface import Interface
from costate.core.types import Labels, Shape, State


class Exact(Interface):
    """Backpropagation hands on the gradient that arrived: g = ∂ℓ/∂h."""

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        assert arrived is not None, "an exact interface needs a schedule that waits for the gradient"
        return arrived


class Late(Interface):
    """Hands on the gradient that arrived, shrunk: the later it is, the less it counts.

        g used = β g        at every boundary that g passes, so β^(K − 1 − k) of the loss's gradient behind stage k of K

    Zhuang et al. (2021), Fully decoupled neural network learning using delayed gradients (1906.09108).

    Args:
        shrink: β.
    """

    def __init__(self, shrink: float):
        super().__init__()
        self.shrink = shrink

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        assert arrived is not None, "a late interface needs a schedule that waits for the gradient"
        return arrived if self.shrink == 1 else self.shrink * arrived


class Silent(Interface):
    """Answers g = 0, so only the last stage learns: the "No Bprop" baseline of Jaderberg et al. (2017)."""

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        return torch.zeros_like(h)


class Feedback(Interface):
    """Direct feedback alignment: the output's error, by a fixed random map, with which the layers align themselves.

        e   error ∂ℓ/∂output                      (batch, outputs)
        B   drawn once, normal with variance 1/outputs
        g used = e B                              (batch, *shape)

    Nøkland (2016), Direct feedback alignment provides learning in deep neural networks, 1609.01596.
    """

    B: Float[Tensor, "outputs features"]

    def __init__(self, shape: Shape, outputs: int):
        super().__init__()
        self.register_buffer("B", torch.randn(outputs, torch.Size(shape).numel()) / outputs**0.5)

    def gradient(self, h: State, y: Labels, arrived: Tensor | None, n: int) -> Tensor:
        assert arrived is not None, "the error comes up by the post"
        return (arrived.to(self.B.dtype) @ self.B).view_as(h).to(h.dtype)
