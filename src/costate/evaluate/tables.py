"""Predictions as tables: on the screen and in files."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from costate.evaluate.predictions import Predictions


def write(found: Predictions, folder: Path) -> None:
    """predictions.csv, a line a row of the data, and classes.csv."""
    if not found.classes:
        header = [f"{kind}_{i}" for kind in ("target", "output") for i in range(found.output.shape[1])]
        rows = torch.cat([found.y, found.output], dim=1).tolist()
        _csv(folder / "predictions.csv", ["row", *header], ([i, *row] for i, row in enumerate(rows)))
        return
    share = found.output.softmax(1).max(1).values.tolist()
    columns = (found.y.tolist(), found.guesses().tolist(), share)
    lines = (
        [i, found.classes[y], found.classes[g], f"{p:.6f}"] for i, (y, g, p) in enumerate(zip(*columns, strict=True))
    )
    _csv(folder / "predictions.csv", ["row", "class", "prediction", "probability"], lines)
    by_class = found.by_class()
    _csv(folder / "classes.csv", list(by_class[0]), (list(row.values()) for row in by_class))


def _csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def show(found: Predictions, title: str) -> None:
    """Scores, and a line a class."""
    console = Console()
    console.print(", ".join(f"{name} {value:.4g}" for name, value in found.scores().items()))
    if found.classes:
        table = Table(*found.by_class()[0])
        for row in found.by_class():
            name, *numbers, rows = row.values()
            table.add_row(name, *(f"{number:.3f}" for number in numbers), f"{rows:.0f}")
        console.print(table)
    console.print(f"Written: {title}", soft_wrap=True)
