"""Where the numbers of a run are written: always to metrics.csv in its folder.

A logger is made from the run's folder, the number of batches that are done if the run is resumed, and its settings.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from csv import DictWriter, reader
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import numpy as np
import yaml
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from PIL import Image

from costate.runs.files import write


def csv(folder: Path, done: int, config: dict[str, Any]) -> Logger:
    """metrics.csv; on resuming after `done` batches it keeps the rows up to there, and forgets later ones."""
    path = folder / "metrics.csv"
    return MetricsFile(path, [row for row in read(path) if int(row["step"]) < done])


def tensorboard(folder: Path, done: int, config: dict[str, Any]) -> Logger:
    """Event files in tensorboard/; a resumed run hides what had been written after `done` batches.

    Raises:
        ValueError: tensorboard is not installed.
    """
    needs("tensorboard", "tensorboard")
    logger = TensorBoardLogger(folder, name="", version="tensorboard", purge_step=done or None)
    logger.experiment.add_text("config", "    " + yaml.safe_dump(config).replace("\n", "\n    "))
    return Tolerant(logger, "TensorBoard")


def needs(package: str, extra: str) -> None:
    """Says how to install what an optional part needs.

    Raises:
        ValueError: the package is not there.
    """
    if find_spec(package) is None:
        raise ValueError(f"{package} is not installed: pip install -e '.[{extra}]'.")


Row = dict[str, Any]


@final
class MetricsFile(Logger):
    """Appends to a file that it begins with the rows it is given."""

    name = version = save_dir = ""

    def __init__(self, path: Path, rows: Sequence[Row] = ()):
        super().__init__()
        self.path, self.save_dir = path, str(path.parent)
        self._columns: list[str] | None = None
        self._waiting: list[Row] = list(rows)

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
        columns = sorted({*(self._columns or ()), *(name for row in self._waiting for name in row)})
        if columns != self._columns:
            before = [] if self._columns is None else read(self.path)
            write(self.path, _text(columns, [*before, *self._waiting], header=True))
            self._columns = columns
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
    lines = reader(line for line in whole if "\0" not in line)
    header = next(lines, [])
    rows: list[Row] = []
    with contextlib.suppress(ValueError):  # what is no number
        for cells in lines:
            row = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
            if len(cells) != len(header) or not row.get("step", "").isdecimal():
                break
            for cell in row.values():
                float(cell)
            rows.append(row)
    return rows


def _text(columns: Sequence[str], rows: Sequence[Row], header: bool = False) -> str:
    text = io.StringIO(newline="")
    writer = DictWriter(text, columns)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@final
class Tolerant(Logger):
    """Hands on to another logger until that fails, warns once under the name that users know, and is silent from then
    on; `leave` sees to it that nobody else asks the service.
    """

    name: str | None = None
    version: int | str | None = None
    save_dir: str | None = None

    def __init__(self, logger: Logger, called: str, leave: Callable[[], None] = lambda: None):
        super().__init__()
        self.logger, self.called, self.leave = logger, called, leave
        self.name, self.version, self.save_dir = logger.name, logger.version, logger.save_dir
        self.failed = False

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self._try(self.logger.log_metrics, metrics, step)

    def log_hyperparams(self, params: Any, *arguments: Any) -> None:
        self._try(self.logger.log_hyperparams, params, *arguments)

    def log_picture(self, name: str, picture: Path, step: int) -> None:
        self._try(show, self.logger, name, picture, step)

    def save(self) -> None:
        self._try(self.logger.save)

    def finalize(self, status: str) -> None:
        self._try(self.logger.finalize, status)

    def _try(self, action: Callable[..., None], *arguments: Any) -> None:
        if self.failed:
            return
        try:
            action(*arguments)
        except Exception as fault:  # whatever a service's client raises, the training is worth more
            self.failed = True
            told = f"{self.called} has failed ({fault}): the run goes on with metrics.csv alone."
            print(told, file=sys.stderr, flush=True)
            self.leave()


def show(logger: Logger, name: str, picture: Path, step: int) -> None:
    """W&B and TensorBoard have the picture under its name; a table of numbers has no place for it."""
    if isinstance(logger, WandbLogger):
        logger.log_image(key=name, images=[str(picture)], step=step)
    elif isinstance(logger, TensorBoardLogger):
        pixels: Any = np.asarray(Image.open(picture).convert("RGB"))
        logger.experiment.add_image(name, pixels, step, dataformats="HWC")
