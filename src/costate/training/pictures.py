"""Pictures to those loggers that show pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image


def show(logger: Logger, name: str, picture: Path, step: int) -> None:
    """W&B and TensorBoard have the picture under its name; a table of numbers has no place for it."""
    if isinstance(logger, WandbLogger):
        logger.log_image(key=name, images=[str(picture)], step=step)
    elif isinstance(logger, TensorBoardLogger):
        pixels: Any = np.asarray(Image.open(picture).convert("RGB"))
        logger.experiment.add_image(name, pixels, step, dataformats="HWC")
