"""What a network is trained for: the loss, the score, and how a label is told to a synthesizer."""

from abc import ABC, abstractmethod
from typing import Literal, TypeAlias, final

import torch
import torchmetrics
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.wrappers import LambdaInputTransformer

from costate.core.types import Context, Labels


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

    def answers(self, y: Labels) -> int:
        """How many answers are asked for: what is reported is the loss of one, whatever the length of sequences."""
        return len(y)

    @abstractmethod
    def blank(self, rows: int) -> Labels:
        """Labels of so many rows, all of them 0."""

    @abstractmethod
    def describe(self, y: Labels) -> Context:
        """The label as numbers: what a conditioned synthesizer reads beside the state."""

    @abstractmethod
    def metric(self, across_ranks: bool = True) -> torchmetrics.Metric:
        """A fresh metric that accumulates the score over batches and, where asked to, over ranks."""

    @abstractmethod
    def total(self, output: Tensor, y: Labels) -> Tensor:
        """The score of a batch times its answers, quickly: for each batch that is trained on."""

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
        return MulticlassAccuracy(self.outputs, average="micro", sync_on_compute=across_ranks)

    def total(self, output: Float[Tensor, "batch outputs"], y: Labels) -> Tensor:
        return (output.argmax(dim=-1) == y).sum()


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

    def total(self, output: Float[Tensor, "batch outputs"], y: Labels) -> Tensor:
        return (output - y).square().sum() / self.outputs


SILENT = -1
"""The class of a step that does not count."""
Outputs: TypeAlias = Float[Tensor, "batch steps outputs"]


def cross_entropy(output: Tensor, y: Tensor, reduction: str) -> Tensor:
    """Over the steps that count."""
    return F.cross_entropy(output.flatten(0, -2), y.flatten(), ignore_index=SILENT, reduction=reduction)


class SequenceTask(Task):
    """A task at the steps of a sequence: outputs (batch, steps, outputs), and classes at each step or one label.

    The own loss of a sample is the sum over its steps that count, so that the loss of a sequence is the sum of the
    losses of its spans, and its gradients keep their size however long it is.

    Attributes:
        carried: whether a batch goes on where the one before has ended, and the state with it; an epoch begins anew.
    """

    carried: bool = False

    @abstractmethod
    def part(self, y: Labels, start: int, end: int, steps: int) -> Tensor | None:
        """What is asked for at steps start, ..., end − 1 of so many; None where nothing is."""

    @abstractmethod
    def coming(self, y: Labels, start: int) -> Tensor:
        """What a synthesizer is told in front of step start: of later steps, as much as it reads."""


class EachStep(SequenceTask):
    """A class at each step, or none; synthesizers are told those of so many steps to come, as far as the batch goes.

    From the state alone the gradient could not be known where it asks for what the state does not hold yet: a symbol
    that is to be remembered, and is not.

    Args:
        told: how many; of few classes, or a linear synthesizer has more to learn than it is shown.
    """

    def __init__(self, classes: int, told: int = 0):
        self.outputs, self.told, self.context = classes, told, told * classes

    def part(self, y: Labels, start: int, end: int, steps: int) -> Tensor | None:
        return y[:, start:end]

    def loss(self, output: Outputs, y: Int[Tensor, "batch steps"]) -> Float[Tensor, ""]:
        return cross_entropy(output, y, "sum") / len(y)

    def losses(self, output: Outputs, y: Int[Tensor, "batch steps"]) -> Float[Tensor, " batch"]:
        return cross_entropy(output, y, "none").view_as(y).sum(dim=1)

    def answers(self, y: Labels) -> int:
        return max(int((y != SILENT).sum()), 1)

    def blank(self, rows: int) -> Labels:
        return torch.zeros(rows, 1, dtype=torch.long)

    def coming(self, y: Labels, start: int) -> Tensor:
        later = y[:, start : start + self.told]
        return F.pad(later, (0, self.told - later.shape[1]), value=SILENT)

    def describe(self, y: Int[Tensor, "batch told"]) -> Context:
        # A step that does not count is all zeros.
        return F.one_hot(y + 1, self.outputs + 1)[..., 1:].flatten(1).float()


@final
class Symbols(EachStep):
    """The share of symbols that are right."""

    score = "accuracy"
    mode: Literal["min", "max"] = "max"

    def metric(self, across_ranks: bool = True) -> torchmetrics.Metric:
        right = MulticlassAccuracy(self.outputs, average="micro", ignore_index=SILENT, sync_on_compute=across_ranks)
        return LambdaInputTransformer(right, lambda output: output.flatten(0, -2), lambda y: y.flatten())

    def total(self, output: Outputs, y: Int[Tensor, "batch steps"]) -> Tensor:
        return (output.argmax(dim=-1) == y).sum()


@final
class Characters(EachStep):
    """Bits a character, −log₂ p of the next one; the perplexity is 2 to that power."""

    score = "bits"
    mode: Literal["min", "max"] = "min"
    carried = True

    def metric(self, across_ranks: bool = True) -> torchmetrics.Metric:
        return Bits(across_ranks)

    def total(self, output: Outputs, y: Int[Tensor, "batch steps"]) -> Tensor:
        return cross_entropy(output, y, "sum") / torch.log(torch.tensor(2.0))

    def readings(self, score: Tensor) -> dict[str, Tensor]:
        return {self.score: score, "perplexity": score.exp2()}


@final
class Bits(torchmetrics.Metric):
    """Mean of −log₂ p over the steps that count."""

    total: Tensor
    steps: Tensor

    def __init__(self, across_ranks: bool):
        super().__init__(sync_on_compute=across_ranks)
        for name in ("total", "steps"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, output: Tensor, y: Tensor) -> None:
        self.total += cross_entropy(output, y, "sum") / torch.log(torch.tensor(2.0))
        self.steps += (y != SILENT).sum()

    def compute(self) -> Tensor:
        return (self.total / self.steps).float()


@final
class AtEnd(SequenceTask):
    """Another task, asked of the last output; its label is told to synthesizers, as in depth."""

    def __init__(self, task: Task):
        self.task = task
        self.outputs, self.context, self.score, self.mode = task.outputs, task.context, task.score, task.mode

    def part(self, y: Labels, start: int, end: int, steps: int) -> Tensor | None:
        return y if end == steps else None

    def coming(self, y: Labels, start: int) -> Tensor:
        return y

    def loss(self, output: Outputs, y: Labels) -> Float[Tensor, ""]:
        return self.task.loss(output[:, -1], y)

    def losses(self, output: Outputs, y: Labels) -> Float[Tensor, " batch"]:
        return self.task.losses(output[:, -1], y)

    def blank(self, rows: int) -> Labels:
        return self.task.blank(rows)

    def describe(self, y: Labels) -> Context:
        return self.task.describe(y)

    def metric(self, across_ranks: bool = True) -> torchmetrics.Metric:
        return LambdaInputTransformer(self.task.metric(across_ranks), lambda output: output[:, -1])

    def total(self, output: Outputs, y: Labels) -> Tensor:
        return self.task.total(output[:, -1], y)
