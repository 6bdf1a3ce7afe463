"""The surface that a network has learned, every few epochs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from costate.config.settings import Count
from costate.data.planar import Surface, surface

GRID = 64
FOLDER, PICTURE = "surface", "surface.png"


@final
class SurfacePictures(Callback):
    """Keeps the network's heights over a grid on [−1, 1]² as surface/epoch-<e>.npy, and those of the target.

    Where matplotlib is installed it also redraws surface.png each time: the target, and the network at a few epochs.

    Args:
        every: epochs from one picture to the next; there is one of the last epoch too.

    Raises:
        ValueError: the data are no surface.
    """

    def __init__(self, *, every: Count):
        self.every = every

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if not isinstance(data, Surface):
            raise ValueError("callbacks.surface_pictures draws what is learned of data=surface alone.")
        self.folder = Path(trainer.default_root_dir) / FOLDER

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Every process holds the whole network now.
        done = trainer.current_epoch + 1
        if not trainer.is_global_zero or (done % self.every and done != trainer.max_epochs):
            return
        self.folder.mkdir(exist_ok=True)
        x = grid()
        points = trainer.precision_plugin.convert_input(x).to(pl_module.device)
        np.save(self.folder / "target.npy", surface(x.double()).float().view(GRID, GRID).numpy())
        heights = pl_module(points)[:, 0].float().cpu()
        np.save(self.folder / f"epoch-{done:04}.npy", heights.view(GRID, GRID).numpy())
        if find_spec("matplotlib") is not None:
            from costate.reports import surfaces

            surfaces.draw([surfaces.read(self.folder.parent, "")]).savefig(self.folder.parent / PICTURE, dpi=110)
            for logger in trainer.loggers:
                # With the numbers of the same validation; metrics.csv has no place for it.
                log_picture: Any = getattr(logger, "log_picture", None)
                if log_picture is not None:
                    log_picture("surface", self.folder.parent / PICTURE, trainer.global_step - 1)


def grid() -> Float[Tensor, "points 2"]:
    """GRID × GRID points, row by row from below."""
    axis = torch.linspace(-1, 1, GRID)
    return torch.cartesian_prod(axis, axis).flip(1)
