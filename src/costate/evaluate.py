"""python -m costate.evaluate RUN [split=test] [data=... data.root=...]: how a run's network does, class by class.

Written into RUN/evaluation: scores.json, classes.csv, predictions.csv and, with matplotlib, confusion.png and .svg.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from costate.config.composing import composed
from costate.config.words import suggestion
from costate.core.tasks import AtEnd, Classification, Task
from costate.data.memory import InMemory
from costate.reports.table import comma_separated
from costate.runs import trained
from costate.runs.program import cause

SPLITS = ("train", "validation", "test")
COLUMNS = ("class", "precision", "recall", "f1", "rows")


@final
@dataclass(frozen=True)
class Predictions:
    """Outputs and labels, a row a sample, in the order of the data; names of classes, none for numbers."""

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

    def by_class(self) -> list[list[Any]]:
        """Name, precision, recall, F1 and number of rows of each class; 0 where there is nothing to divide by."""
        classes = range(len(self.classes))
        columns = precision_recall_fscore_support(self.y.numpy(), self.guesses(), labels=classes, zero_division=0)
        return [[name, *map(float, row)] for name, *row in zip(self.classes, *columns, strict=True)]

    def write(self, folder: Path) -> None:
        """scores.json, predictions.csv, a line a row of the data, and of classes classes.csv and their confusion."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scores.json").write_text(json.dumps(self.scores(), indent=2) + "\n", encoding="utf-8")
        rows: list[list[Any]]
        if self.classes:
            header, share = ["class", "prediction", "probability"], self.output.softmax(1).max(1).values.tolist()
            found = zip(self.y.tolist(), self.guesses().tolist(), share, strict=True)
            rows = [[self.classes[y], self.classes[guess], f"{p:.6f}"] for y, guess, p in found]
        else:
            header = [f"{kind}_{i}" for kind in ("target", "output") for i in range(self.output.shape[1])]
            rows = torch.cat([self.y, self.output], dim=1).tolist()
        text = comma_separated(["row", *header], ([i, *row] for i, row in enumerate(rows)))
        (folder / "predictions.csv").write_text(text, encoding="utf-8")
        if self.classes:
            (folder / "classes.csv").write_text(comma_separated(COLUMNS, self.by_class()), encoding="utf-8")
            if find_spec("matplotlib") is not None:
                from costate.reports import networks, style

                counts = confusion_matrix(self.y.numpy(), self.guesses(), labels=range(len(self.classes)))
                style.save(networks.confusion(counts, self.classes), folder, "confusion")

    def show(self, title: str) -> None:
        """Scores, and a line a class."""
        console = Console()
        told = {name: f"{value:,}" if name == "rows" else f"{value:.4g}" for name, value in self.scores().items()}
        console.print(", ".join(f"{name} {value}" for name, value in told.items()))
        if self.classes:
            table = Table(*COLUMNS)
            for name, *numbers, rows in self.by_class():
                table.add_row(name, *(f"{number:.3f}" for number in numbers), f"{rows:.0f}")
            console.print(table)
        console.print(f"Written: {title}", soft_wrap=True)


@torch.no_grad()
def predict(folder: Path, overrides: Sequence[str], split: str) -> Predictions:
    """Of a run's network, on its own data or on another set, prepared as the training rows were.

    Args:
        overrides: of the data, as for train.py; with data=... another set, else the run's own with other settings.

    Raises:
        ValueError: there is no such run, or the data is not of its network's kind.
    """
    cfg = trained.settings(folder)
    own = instantiate(cfg["data"], _convert_="all")
    if not isinstance(own, InMemory):
        raise ValueError(f"{folder}: sequences that are drawn or streamed have no rows to look at; see summary.json.")
    network = trained.plain(trained.network(folder, cfg, own.shape, own.task.outputs))
    own.setup()
    data = _other(cfg, overrides, own) if overrides else own
    batches = list(data.in_order(split))
    output, y = torch.cat([network(x) for x, _ in batches]), torch.cat([y for _, y in batches])
    task: Task = data.task
    if isinstance(task, AtEnd):
        task, output = task.task, output[:, -1]
    names = data.class_names or [str(c) for c in range(task.outputs)]
    return Predictions(task, output, y, names if isinstance(task, Classification) else [])


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
    if own.class_names and data.class_names and own.class_names != data.class_names:
        raise ValueError(
            f"The network tells {', '.join(own.class_names)} apart; this data has {', '.join(data.class_names)}: give "
            "its classes those names, in that order."
        )
    data.setup()
    data.prepare = own.prepare
    return data


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m costate.evaluate", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("settings", nargs="*", help="split=test, and settings of the data as for train.py")
    parser.add_argument("--out", type=Path, help="where to write (default: RUN/evaluation/SPLIT)")
    arguments = parser.parse_args(words)
    split, overrides = "test", []
    for word in arguments.settings:
        if word.startswith("split="):
            split = word.removeprefix("split=")
        elif word.startswith(("data=", "data.")):
            overrides.append(word)
        else:
            parser.error(f"{word}: only split and data can be set.")
    if split not in SPLITS:
        parser.error(f"split={split} must be one of {', '.join(SPLITS)}.")
    try:
        found = predict(arguments.run, overrides, split)
    except (ValueError, HydraException) as error:
        print(cause(error), file=sys.stderr)
        return 2
    out = arguments.out or arguments.run / "evaluation" / split
    found.write(out)
    found.show(str(out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
