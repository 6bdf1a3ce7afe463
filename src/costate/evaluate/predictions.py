"""The outputs of a run's network on rows of data, and what they amount to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from costate.config.composing import composed
from costate.config.schema import suggestion
from costate.core.tasks import Classification, Task
from costate.data.memory import InMemory
from costate.runs import trained


@final
@dataclass(frozen=True)
class Predictions:
    """Outputs and labels, a row a sample, in the order of the data.

    Attributes:
        classes: their names; none where numbers are predicted.
    """

    task: Task
    output: Tensor
    y: Tensor
    classes: list[str]

    def scores(self) -> dict[str, float]:
        """Loss and score, and how many rows there are."""
        metric = self.task.metric(across_ranks=False)
        metric.update(self.output, self.y)
        loss = self.task.loss(self.output, self.y).item()
        return {"loss": loss, self.task.score: float(metric.compute()), "rows": len(self.y)}

    def guesses(self) -> np.ndarray:
        """The class of the largest output of each row."""
        return self.output.argmax(1).numpy()

    def confusion(self) -> np.ndarray:
        """Rows by class and by what the network takes them for: (classes, classes) numbers."""
        return confusion_matrix(self.y.numpy(), self.guesses(), labels=range(len(self.classes)))

    def by_class(self) -> list[dict[str, Any]]:
        """Precision, recall, F1 and number of rows of each class; 0 where there is nothing to divide by."""
        columns = precision_recall_fscore_support(
            self.y.numpy(), self.guesses(), labels=range(len(self.classes)), zero_division=0
        )
        names = ("precision", "recall", "f1", "rows")
        rows = zip(self.classes, *columns, strict=True)
        return [{"class": name, **dict(zip(names, map(float, row), strict=True))} for name, *row in rows]


@torch.no_grad()
def predict(folder: Path, overrides: Sequence[str], split: str) -> Predictions:
    """Of a run's network, on its own data or on another set, prepared as the training rows were.

    Args:
        overrides: of the data, as for train.py; with data=... another set, else the run's own with other settings.
        split: train, validation or test.

    Raises:
        ValueError: there is no such run, or the data is not of its network's kind.
    """
    cfg = trained.settings(folder)
    own = instantiate(cfg["data"], _convert_="all")
    if not isinstance(own, InMemory):
        raise ValueError(f"{folder}: sequences that are drawn or streamed have no rows to look at; see summary.json.")
    network = trained.joined(trained.stages(folder, cfg, own))
    own.setup()
    data = _other(cfg, overrides, own) if overrides else own
    assert data.parts, "read by now"
    rows = dict(zip(("train", "validation", "test"), data.parts, strict=True))[split]
    batches = list(data.in_order(rows))
    output, y = torch.cat([network(x) for x, _ in batches]), torch.cat([y for _, y in batches])
    names = data.class_names or [str(c) for c in range(data.task.outputs)]
    return Predictions(data.task, output, y, names if isinstance(data.task, Classification) else [])


def _other(cfg: dict[str, Any], overrides: Sequence[str], own: InMemory) -> InMemory:
    """The data that the overrides say, prepared as the run's own."""
    if any(word.startswith("data=") for word in overrides):
        chosen = composed(*overrides).data
    else:
        chosen = OmegaConf.merge(cfg["data"], OmegaConf.from_dotlist([word[len("data.") :] for word in overrides]))
        for key in chosen.keys() - cfg["data"].keys():
            raise ValueError(f"data.{key}: no such setting{suggestion(key, cfg['data'])}.")
    data = instantiate(chosen, _convert_="all")
    if (data.shape, data.task.outputs, type(data.task)) != (own.shape, own.task.outputs, type(own.task)):
        raise ValueError(
            f"The network takes samples {own.shape} and gives {own.task.outputs} outputs; this data has {data.shape} "
            f"and asks for {data.task.outputs}."
        )
    data.setup()
    data.prepare = own.prepare
    return data
