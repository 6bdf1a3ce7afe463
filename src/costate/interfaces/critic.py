"""A local critic: a small net that guesses the output, and learns to lose what the network will lose.

    c     critic, h -> outputs
    ℓ_i   loss of sample i, of a guess or of the output
    g   = ∂ mean_i ℓ_i(c(h)) / ∂h
    fit = mean_i |ℓ_i(c(h)) − ℓ_i(next)|        next: the critic at the next boundary, or the output itself

One number a sample goes up a boundary. Lee, Lee, Hwang, Shin & Yi (2022), Local critic training for model-parallel
learning of deep neural networks, 1805.01128.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from costate.interfaces.base import Learning
from costate.tasks import Task
from costate.types import Labels, State


class Critic(Learning):
    """Answers the gradient of its guess's loss.

    Args:
        guesses: c.
    """

    def __init__(self, guesses: nn.Module, task: Task):
        super().__init__()
        self.guesses, self.task = guesses, task

    def gradient(self, h: State, y: Labels, arrived: Tensor | None, n: int) -> Tensor:
        end = h.detach().requires_grad_()
        losses = self.task.losses(self.guesses(end), y)
        self.said = losses.detach()
        return torch.autograd.grad(losses.mean(), end)[0]

    def study(self, h: State, y: Labels) -> None:
        self.said = self.task.losses(self.guesses(h), y).detach()

    def fit(self, h: State, y: Labels, target: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        losses, expected = self.task.losses(self.guesses(h.detach()), y), target.detach() * len(h)
        self.last = (losses.detach(), expected)
        return (losses - expected).abs().mean()
