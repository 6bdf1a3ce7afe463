"""A loss of its own in front of a boundary, in place of a gradient from behind it.

    P      head: guesses the output from h                          (batch, outputs)
    Φ      features of which samples are compared                   (batch, features)
    S(A)   cosine of each two rows of A, their means taken away     (batch, batch)

    pred   L(P(h), y), the task's own loss
    sim    mean (S(Φ(h)) − S(y))², y one-hot: samples of a class are to look alike
    loss = (1 − β) pred + β sim
    g    = ∂loss/∂h

Belilovsky, Eickenberg & Oyallon (2020), Decoupled greedy learning of CNNs, 1901.08164 (pred);
Nøkland & Eidnes (2019), Training neural networks with local error signals, 1901.06656 (sim, predsim; β = 0.99).
"""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from costate.interfaces.base import Interface
from costate.tasks import Task
from costate.types import Labels, State

Gather = Callable[[Tensor], Tensor]


class LocalLoss(Interface):
    """Answers the gradient of a local loss, whose head learns from it in the same pass.

    Args:
        head: P; None where β = 1.
        features: Φ; None where β = 0.
        similarity: β.

    Attributes:
        gather: (numbers,) of every rank that shares a batch -> (ranks, numbers), differentiable; None if this process
            has all of it. With it, samples are compared across ranks.
    """

    gather: Gather | None = None

    def __init__(self, head: nn.Module | None, features: nn.Module | None, task: Task, similarity: float):
        super().__init__()
        self.head, self.features = head, features
        self.task, self.similarity = task, similarity

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        end = h.detach().requires_grad_()
        self.loss(end, y).backward()
        assert end.grad is not None
        return end.grad

    def study(self, h: State, y: Labels) -> None:
        self.loss(h.detach(), y).backward()

    def loss(self, h: State, y: Labels) -> Float[Tensor, ""]:
        """(1 − β) pred + β sim."""
        parts = []
        if self.head is not None:
            parts.append((1 - self.similarity) * self.task.loss(self.head(h), y))
        if self.features is not None:
            parts.append(self.similarity * self._dissimilarity(self.features(h), y))
        return sum(parts[1:], start=parts[0])

    def _dissimilarity(self, A: Float[Tensor, "batch features"], y: Labels) -> Float[Tensor, ""]:
        labels = self.task.describe(y).to(A.dtype)
        return F.mse_loss(cosines(self._joint(A)), cosines(self._joint(labels)))

    def _joint(self, A: Float[Tensor, "rows features"]) -> Float[Tensor, "joint features"]:
        return A if self.gather is None else self.gather(A.reshape(-1)).view(-1, A.shape[1])


def cosines(A: Float[Tensor, "rows features"]) -> Float[Tensor, "rows rows"]:
    """S(A); 0 for a row without variation."""
    A = F.normalize(A - A.mean(dim=1, keepdim=True), dim=1)
    return A @ A.T
