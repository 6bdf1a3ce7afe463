"""Where the numbers of a run are written: always to metrics.csv in its folder.

A logger is made from the run's folder, the number of batches that are done if the run is resumed, and its settings.
"""

import csv as table
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger


def csv(folder: Path, done: int, config: dict[str, Any]) -> Logger:
    """metrics.csv; on resuming after `done` batches it keeps the rows up to there, and forgets later ones."""
    path = folder / "metrics.csv"
    rows = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in table.DictReader(file) if int(row["step"]) < done]
    # Lightning's logger begins by deleting the file that is there, and says so.
    warnings.filterwarnings("ignore", "Experiment logs directory .* exists and is not empty")
    logger = CSVLogger(folder, name="", version="")
    if rows:
        for row in rows:
            step = int(row.pop("step"))
            logger.experiment.log_metrics({name: value for name, value in row.items() if value}, step)
        logger.save()
    return logger


def tensorboard(folder: Path, done: int, config: dict[str, Any]) -> Logger:
    """Event files in tensorboard/; a resumed run hides what had been written after `done` batches.

    Raises:
        ValueError: tensorboard is not installed.
    """
    needs("tensorboard", "tensorboard")
    logger = TensorBoardLogger(folder, name="", version="tensorboard", purge_step=done or None)
    logger.experiment.add_text("config", "    " + yaml.safe_dump(config).replace("\n", "\n    "))
    return logger


def needs(package: str, extra: str) -> None:
    """Says how to install what an optional part needs.

    Raises:
        ValueError: the package is not there.
    """
    if find_spec(package) is None:
        raise ValueError(f"{package} is not installed: pip install -e '.[{extra}]'.")
