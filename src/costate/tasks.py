"""What a network is trained for: the loss, the score, and how a label is told to a synthesizer."""

from abc import ABC, abstractmethod
from typing import Literal

import costate.compat  # noqa: F401  (torchmetrics imports torchvision)

import torch
import torchmetrics
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from costate.types import Context, Labels


class Task(ABC):
    """A loss over outputs and labels, with the score that people read.

    Attributes:
        outputs: numbers that the head gives for a sample.
        context: numbers that tell a synthesizer the label of a sample.
        score: name of the score in logs and tables.
        mode: whether a good score is a high ("max") or a low one ("min").
    """

    outputs: int
    context: int
    score: str
    mode: Literal["min", "max"]

    @abstractmethod
    def loss(self, output: Float[Tensor, "batch outputs"], y: Labels) -> Float[Tensor, ""]:
        """Mean over the batch of each sample's own loss."""

    @abstractmethod
    def losses(self, output: Float[Tensor, "batch outputs"], y: Labels) -> Float[Tensor, " batch"]:
        """Each sample's own."""

    @abstractmethod
    def blank(self, rows: int) -> Labels:
        """Labels of so many rows, all of them 0."""

    @abstractmethod
    def describe(self, y: Labels) -> Context:
        """The label as numbers: what a conditioned synthesizer reads beside the state."""

    @abstractmethod
    def metric(self, across_ranks: bool = True) -> torchmetrics.Metric:
        """A fresh metric that accumulates the score over batches and, where asked to, over ranks."""

    def readings(self, score: Tensor) -> dict[str, Tensor]:
        """The score by its name, and what else people read it as."""
        return {self.score: score}


class Classification(Task):
    """Cross-entropy over logits (the softmax is inside the loss) and accuracy."""

    score = "accuracy"
    mode = "max"

    def __init__(self, classes: int):
        self.outputs = self.context = classes

    def loss(self, output: Float[Tensor, "batch outputs"], y: Labels) -> Float[Tensor, ""]:
        return F.cross_entropy(output, y)

    def losses(self, output: Float[Tensor, "batch outputs"], y: Labels) -> Float[Tensor, " batch"]:
        return F.cross_entropy(output, y, reduction="none")

    def blank(self, rows: int) -> Labels:
        return torch.zeros(rows, dtype=torch.long)

    def describe(self, y: Labels) -> Context:
        return F.one_hot(y, self.context).float()

    def metric(self, across_ranks: bool = True) -> torchmetrics.Metric:
        return torchmetrics.classification.MulticlassAccuracy(
            self.outputs, average="micro", sync_on_compute=across_ranks
        )


class Regression(Task):
    """Mean squared error over the outputs of a sample; the targets are their own description."""

    score = "mse"
    mode = "min"

    def __init__(self, outputs: int):
        self.outputs = self.context = outputs

    def loss(self, output: Float[Tensor, "batch outputs"], y: Labels) -> Float[Tensor, ""]:
        return F.mse_loss(output, y)

    def losses(self, output: Float[Tensor, "batch outputs"], y: Labels) -> Float[Tensor, " batch"]:
        return F.mse_loss(output, y, reduction="none").flatten(1).mean(dim=1)

    def blank(self, rows: int) -> Labels:
        return torch.zeros(rows, self.outputs)

    def describe(self, y: Labels) -> Context:
        return y

    def metric(self, across_ranks: bool = True) -> torchmetrics.Metric:
        return torchmetrics.MeanSquaredError(sync_on_compute=across_ranks)
