"""Where the numbers of a run are written: always to metrics.csv in its folder.

A logger is made from the run's folder, the number of batches that are done if the run is resumed, and its settings.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from costate.training.metrics_file import MetricsFile, read
from costate.training.tolerant import Tolerant


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
