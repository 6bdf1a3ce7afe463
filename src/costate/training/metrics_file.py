"""metrics.csv: a row each time that something is logged, in columns that grow.

Lightning's own logger rewrites the file in place for each new column, and begins by deleting it: a run that is killed
then has lost the rows of all epochs. Here rows are appended, and a file with new columns takes the place of the
old one.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from costate.runs.writing import write

Row = dict[str, Any]


@final
class MetricsFile(Logger):
    """Appends to a file.

    Args:
        path: of the file.
        rows: that it is to begin with.
    """

    def __init__(self, path: Path, rows: Sequence[Row] = ()):
        super().__init__()
        self.path = path
        self._columns: list[str] = []
        self._waiting: list[Row] = list(rows)
        self._begun = False

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        numbers = {name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()}
        self._waiting.append({**numbers, "step": step})

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """config.yaml has them."""

    @rank_zero_only
    def save(self) -> None:
        """Brings to the file what has been logged."""
        columns = sorted({*self._columns, *(name for row in self._waiting for name in row)})
        if not self._begun or columns != self._columns:
            before = read(self.path) if self._begun else []
            write(self.path, _text(columns, [*before, *self._waiting], header=True))
            self._columns, self._begun = columns, True
        elif self._waiting:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                file.write(_text(columns, self._waiting))
        self._waiting = []

    def finalize(self, status: str) -> None:
        self.save()


def read(path: Path) -> list[Row]:
    """The rows of a file, up to the first that a crash has left unfinished or has filled with zero bytes."""
    if not path.exists():
        return []
    *whole, _ = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n").split("\n")
    lines = csv.reader(line for line in whole if "\0" not in line)
    header = next(lines, [])
    rows: list[Row] = []
    for cells in lines:
        row = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
        if len(cells) != len(header) or not all(map(_is_number, row.values())) or not row.get("step", "").isdecimal():
            break
        rows.append(row)
    return rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _text(columns: Sequence[str], rows: Sequence[Row], header: bool = False) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
