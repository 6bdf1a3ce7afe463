"""Pictures to those loggers that show pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image


def show(loggers: list[Logger], name: str, picture: Path, step: int) -> None:
    """W&B and TensorBoard have the picture under its name; a table of numbers has no place for it.

    Args:
        step: batches that are done.
    """
    for logger in loggers:
        logger = getattr(logger, "logger", logger)
        log_image: Any = getattr(logger, "log_image", None)
        if log_image is not None:
            log_image(key=name, images=[str(picture)], step=step)
        elif isinstance(logger, TensorBoardLogger):
            pixels = np.asarray(Image.open(picture).convert("RGB"))
            logger.experiment.add_image(name, pixels, step, dataformats="HWC")
