"""What a network makes of its inputs: how far it amplifies a disturbance, what its states tell, the surface it learns.

H   states behind a stage, a row a sample, with a column of ones   (n, d + 1)
T   labels as numbers, one-hot or targets                          (n, outputs)
W   argmin_W ‖H W − T‖² + r ‖W‖², r = RIDGE n                      (Alain & Bengio, 2016)
"""

import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F

from costate.callbacks.measurement import Measurement, watch
from costate.config.settings import Count
from costate.core.block import evaluating
from costate.core.measures import amplification
from costate.data.planar import Surface, surface


@final
class StabilityProbe(Measurement):
    """Largest singular value of each stage's propagation, ∂(state behind its last layer) / ∂(state before its first).

    Logged as `stage/<k>/amplification`, the mean over a few samples of the latest batch; 1 is a stage that neither
    amplifies nor forgets. Opening and head are left out. Of a recurrent network it logs nothing. The `rounds` are those
    of the power iteration, which comes to the value from below.
    """

    def __init__(self, *, every: Count, samples: Count, rounds: Count):
        super().__init__(every=every)
        self.samples, self.rounds = samples, rounds
        self.inputs: dict[int, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.hooks = watch(pl_module.stages, lambda k, x: self.inputs.update({k: x.detach()}))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.hooks.close()
        self.inputs = {}

    def measure(self, module: Any) -> dict[str, Tensor]:
        if module.execution.in_time:
            return {}
        # A process that trains one stage has seen no inputs of the others.
        inputs = sorted(self.inputs.items())
        return {f"stage/{k}/amplification": self._of(module.stages[k].block, x) for k, x in inputs}

    def _of(self, block: Any, x: Tensor) -> Tensor:
        # In evaluation mode batch norm neither mixes the samples nor moves its statistics.
        with evaluating(block):
            Y = block.open(x[: self.samples].detach()).detach()
            return amplification(lambda h: block.propagate(h)[-1], Y, self.rounds)


RIDGE = 1e-3


@final
class LinearProbes(Callback):
    """Fits W on the first training rows after each epoch and logs its score on as many of validation, as
    `stage/<k>/probe_<score>`.

    Every process comes to the same numbers: after an epoch each holds the whole network, and all read the same rows.
    At the end it tells those of the last epoch. Of a recurrent network it logs nothing.
    """

    def __init__(self, *, rows: Count):
        self.rows = rows
        self.found: dict[str, Tensor] = {}

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking or pl_module.execution.in_time:
            return
        h, y = self._rows(trainer, "train")
        seen, seen_y = self._rows(trainer, "validation")
        task, T, numbers = pl_module.task, pl_module.task.describe(y), {}
        # Lightning has put the network into evaluation mode for the validation.
        for k, stage in enumerate(pl_module.stages):
            h, seen = stage(h), stage(seen)
            numbers[f"stage/{k}/probe_{task.score}"] = task.metric().to(h.device)(read(h, T, seen), seen_y)
        pl_module.log_dict(numbers)
        self.found = numbers

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.found and trainer.is_global_zero:
            told = ", ".join(f"{score:.4g}" for score in self.found.values())
            line = f"Linear probes, validation {pl_module.task.score} behind each stage: {told}"
            print(textwrap.fill(line, 80, subsequent_indent="  "))

    def _rows(self, trainer: Any, part: str) -> tuple[Tensor, Tensor]:
        """Of the whole set, not of this process's share; in the network's precision, as its batches are."""
        rows, device = getattr(trainer.datamodule.parts, part), trainer.strategy.root_device
        x = trainer.precision_plugin.convert_input(trainer.datamodule.prepare(rows.x[: self.rows]))
        return x.to(device), rows.y[: self.rows].to(device)


def read(
    H: Float[Tensor, "n ..."], T: Float[Tensor, "n outputs"], seen: Float[Tensor, "m ..."]
) -> Float[Tensor, "m outputs"]:
    """What W, fitted to H and T, says of other states; images are averaged down to 4 × 4 pixels first."""
    a, b = (_columns(each) for each in (H, seen))
    gram = a.T @ a
    gram.diagonal().add_(RIDGE * len(a))
    return (b @ torch.linalg.solve(gram, a.T @ T.double())).float()


def _columns(H: Float[Tensor, "n ..."]) -> Float[Tensor, "n columns"]:
    if H.ndim == 4:
        H = F.adaptive_avg_pool2d(H, min(4, *H.shape[2:]))
    return F.pad(H.flatten(1).double(), (0, 1), value=1.0)


GRID = 64


@final
class SurfacePictures(Callback):
    """Keeps the network's heights over a grid on [−1, 1]² as surface/epoch-<e>.npy, and those of the target: every few
    epochs, and of the last one.

    Where matplotlib is installed it also redraws surface.png each time: the target, and the network at a few epochs.

    Raises:
        ValueError: the data are no surface.
    """

    def __init__(self, *, every: Count):
        self.every = every

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(getattr(trainer, "datamodule", None), Surface):
            raise ValueError("callbacks.surface_pictures draws what is learned of data=surface alone.")
        self.folder = Path(trainer.default_root_dir) / "surface"

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Every process holds the whole network now.
        done = trainer.current_epoch + 1
        if not trainer.is_global_zero or (done % self.every and done != trainer.max_epochs):
            return
        self.folder.mkdir(exist_ok=True)
        x = grid()
        learned = pl_module(trainer.precision_plugin.convert_input(x).to(pl_module.device))[:, 0]
        for name, heights in (("target", surface(x.double())), (f"epoch-{done:04}", learned)):
            np.save(self.folder / f"{name}.npy", heights.float().cpu().view(GRID, GRID).numpy())
        if find_spec("matplotlib") is not None:
            from costate.reports import planar

            picture = self.folder.parent / "surface.png"
            planar.learning([planar.learned(self.folder.parent, "")]).savefig(picture, dpi=110)
            for logger in trainer.loggers:
                # With the numbers of the same validation; metrics.csv has no place for it.
                if hasattr(logger, "log_picture"):
                    logger.log_picture("surface", picture, trainer.global_step - 1)


def grid() -> Float[Tensor, "points 2"]:
    """GRID × GRID points, row by row from below."""
    axis = torch.linspace(-1, 1, GRID)
    return torch.cartesian_prod(axis, axis).flip(1)
