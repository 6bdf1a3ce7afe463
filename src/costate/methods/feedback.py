"""Nothing comes back from behind but the output's error, by a fixed random map, or nothing at all."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from costate.core.block import Block
from costate.core.interface import Interface
from costate.core.method import Method
from costate.core.post import OutputError
from costate.core.schedules import Event, locked
from costate.core.tasks import Task
from costate.core.types import Labels, Shape, State


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


class DirectFeedback(Method):
    """Direct feedback alignment (Nøkland, 2016): feedback interfaces; a stage waits for the forward pass of those
    behind, not for their backward pass.
    """

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Feedback:
        return Feedback(shape, task.outputs)

    def post(self, task: Task) -> OutputError:
        return OutputError(task)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return locked(stages, n, lag)


class NoBprop(Method):
    """Silent interfaces, decoupled schedule: what the last stage can do alone ("No Bprop", Jaderberg et al., 2017); in
    time it is truncated backpropagation.
    """

    sent = None
    in_time = True

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Silent:
        return Silent()
