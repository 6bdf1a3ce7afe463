"""metrics.csv of a run by its columns. Light: imports no torch."""

import csv
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Column(NamedTuple):
    """One metric over a run: batches that were done, and values."""

    steps: list[int]
    values: list[float]


def columns(file: Path) -> dict[str, Column]:
    """By their names; lines that make no sense are left out."""
    found: dict[str, Column] = {}
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else ()
    # Python 3.10 reads no line with the zero bytes that a crash leaves.
    for row in csv.DictReader(line for line in lines if "\0" not in line):
        # A line that is being written is too short yet, and its last number as well.
        with suppress(KeyError, TypeError, ValueError):
            step = int(row.pop("step"))
            for name, value in [(name, float(value)) for name, value in row.items() if value != ""]:
                column = found.setdefault(name, Column([], []))
                column.steps.append(step + 1)
                column.values.append(value)
    return found
