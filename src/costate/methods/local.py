"""A loss of its own in front of each boundary, in place of a gradient from behind it, and its small nets."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from costate.config.settings import Count, Share
from costate.core.block import Block
from costate.core.interface import Interface, Learning
from costate.core.joint import Gather
from costate.core.method import Method
from costate.core.post import Losses
from costate.core.tasks import Classification, Task
from costate.core.types import Labels, Shape, State


class LocalLoss(Interface):
    """Answers the gradient of a local loss, whose head learns from it in the same pass.

        P      head: guesses the output from h                          (batch, outputs)
        Φ      features of which samples are compared                   (batch, features)
        S(A)   cosine of each two rows of A, their means taken away     (batch, batch)

        pred   L(P(h), y), the task's own loss
        sim    mean (S(Φ(h)) − S(y))², y one-hot: samples of a class are to look alike
        loss = (1 − β) pred + β sim;    g = ∂loss/∂h

    Belilovsky, Eickenberg & Oyallon (2020), Decoupled greedy learning of CNNs, 1901.08164 (pred);
    Nøkland & Eidnes (2019), Training neural networks with local error signals, 1901.06656 (sim, predsim; β = 0.99).

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
            A = self.features(h)
            labels = self.task.describe(y).to(A.dtype)
            parts.append(self.similarity * F.mse_loss(cosines(self._joint(A)), cosines(self._joint(labels))))
        return sum(parts[1:], start=parts[0])

    def _joint(self, A: Float[Tensor, "rows features"]) -> Float[Tensor, "joint features"]:
        return A if self.gather is None else self.gather(A.reshape(-1)).view(-1, A.shape[1])


class Critic(Learning):
    """A small net that guesses the output, and learns to lose what the network will lose; answers its guess's gradient.

        c     critic, h -> outputs
        ℓ_i   loss of sample i, of a guess or of the output
        g   = ∂ mean_i ℓ_i(c(h)) / ∂h
        fit = mean_i |ℓ_i(c(h)) − ℓ_i(next)|        next: the critic at the next boundary, or the output itself

    One number a sample goes up a boundary. Lee, Lee, Hwang, Shin & Yi (2022), Local critic training for model-parallel
    learning of deep neural networks, 1805.01128.

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


def cosines(A: Float[Tensor, "rows features"]) -> Float[Tensor, "rows rows"]:
    """S(A); 0 for a row without variation."""
    A = F.normalize(A - A.mean(dim=1, keepdim=True), dim=1)
    return A @ A.T


def features(shape: Shape) -> nn.Module:
    """Φ: a linear map of a vector; of images a 3 × 3 convolution and how much each channel varies over the pixels
    (Nøkland & Eidnes, 2019), where there are several.
    """
    if len(shape) == 3 and shape[1] * shape[2] > 1:
        return nn.Sequential(nn.Conv2d(shape[0], shape[0], 3, padding=1, bias=False), Spread())
    size = torch.Size(shape).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(size, size, bias=False))


class Spread(nn.Module):
    """Standard deviation over the pixels of each channel."""

    def forward(self, h: Tensor) -> Tensor:
        return h.flatten(2).std(dim=2)


def _row(shape: Shape, pool: int) -> tuple[list[nn.Module], int]:
    """What makes a row of a state, and its length."""
    if len(shape) != 3:
        return [nn.Flatten()], torch.Size(shape).numel()
    sides = tuple(min(pool, side) for side in shape[1:])
    return [nn.AdaptiveAvgPool2d(sides), nn.Flatten()], shape[0] * sides[0] * sides[1]


@dataclass(kw_only=True, eq=False)
class Guessing(Method):
    """Each boundary guesses the output.

    Args:
        head: what guesses.
        layers: hidden ones of an mlp or conv head.
        width: features of a hidden layer, or channels.
        pool: pixels along either axis that a head reads of an image.
    """

    head: Literal["linear", "mlp", "conv"]
    layers: Count
    width: Count
    pool: Count

    def guesses(self, shape: Shape, outputs: int) -> nn.Module:
        """A dense layer, behind hidden ones with ReLU: dense (mlp) or 3 × 3 convolutions (conv; Belilovsky et al.,
        2020, "MLP-aux" and "CNN-aux"); images are averaged down to at most pool × pool pixels before a dense layer.

        Raises:
            ValueError: convolutions are to read a state that is no image.
        """
        filters: list[nn.Module] = []
        if self.head == "conv":
            if len(shape) != 3:
                raise ValueError(
                    f"method.head=conv needs images at the boundaries, here they hold {shape[0]} features: "
                    "use method.head=linear or mlp"
                )
            channels = [shape[0]] + [self.width] * self.layers
            filters = [part for a, b in pairwise(channels) for part in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())]
            shape = self.width, *shape[1:]
        row, size = _row(shape, self.pool)
        widths = [size] + [self.width] * (self.layers if self.head == "mlp" else 0)
        hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*filters, *row, *hidden, nn.Linear(widths[-1], outputs))


@dataclass(kw_only=True, eq=False)
class Greedy(Guessing):
    """Decoupled greedy learning: the network's own loss trains the last stage alone, a local one each of the others.

    Belilovsky, Eickenberg & Oyallon (2020), 1901.08164; Nøkland & Eidnes (2019), 1901.06656.

    Args:
        loss: the task's loss of a head that guesses the output; how well samples of a class resemble each other; both.
        similarity: β, the share of the resemblance in predsim.
    """

    sent = None
    loss: Literal["pred", "sim", "predsim"]
    similarity: Share

    def __post_init__(self) -> None:
        self.similarity = {"pred": 0.0, "sim": 1.0}.get(self.loss, self.similarity)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> LocalLoss:
        """Of one boundary.

        Raises:
            ValueError: samples without classes are to be compared by them, or a convolution is to read vectors.
        """
        if self.similarity > 0 and not isinstance(task, Classification):
            raise ValueError(
                f"method.loss={self.loss} compares samples by their classes, and here numbers are to be predicted: "
                "use method.loss=pred"
            )
        guesses = self.guesses(shape, task.outputs) if self.similarity < 1 else None
        compares = features(shape) if self.similarity > 0 else None
        return LocalLoss(guesses, compares, task, self.similarity)


class LocalCritics(Guessing):
    """Each boundary guesses the output, and learns what the next guess is worth (Lee et al., 2022, 1805.01128)."""

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Critic:
        return Critic(self.guesses(shape, task.outputs), task)

    def post(self, task: Task) -> Losses:
        return Losses(task)
