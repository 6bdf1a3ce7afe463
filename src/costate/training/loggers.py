"""Where the numbers of a run are written: always to metrics.csv in its folder."""

import csv as table
import warnings
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger


def csv(folder: Path, done: int) -> list[Logger]:
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
    return [logger]
