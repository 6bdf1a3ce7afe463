"""What a linear map can read out of the state behind each stage.

H   states behind a stage, a row a sample, with a column of ones   (n, d + 1)
T   labels as numbers, one-hot or targets                          (n, outputs)
W   argmin_W ‖H W − T‖² + r ‖W‖², r = RIDGE n                      (Alain & Bengio, 2016)
"""

from typing import Any, final

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F

from costate.config.settings import Count

RIDGE = 1e-3


@final
class LinearProbes(Callback):
    """Fits W on training rows after each epoch and logs its score on validation rows, `stage/<k>/probe_<score>`.

    Every process comes to the same numbers: after an epoch each holds the whole network, and all read the same rows.
    Of a recurrent network, which is one stage, it logs nothing.

    Args:
        rows: of training and of validation that are looked at, the first ones.
    """

    def __init__(self, *, rows: Count):
        self.rows = rows

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        if trainer.sanity_checking or module.execution.in_time:
            return
        (x, y), (seen_x, seen_y) = (self._rows(loader, trainer) for loader in loaders(trainer))
        T = module.task.describe(y)
        numbers = {}
        # Lightning has put the network into evaluation mode for the validation.
        for k, (h, seen) in enumerate(zip(states(module, x), states(module, seen_x), strict=True)):
            metric = module.task.metric().to(h.device)
            numbers[f"stage/{k}/probe_{module.task.score}"] = metric(read(h, T, seen), seen_y)
        pl_module.log_dict(numbers)

    def _rows(self, loader: Any, trainer: Trainer) -> tuple[Tensor, Tensor]:
        """Of the whole set, not of this process's share; in the network's precision, as its batches are."""
        rows, device = loader.rows, trainer.strategy.root_device
        x = trainer.precision_plugin.convert_input(loader.prepare(rows.x[: self.rows]))
        return x.to(device), rows.y[: self.rows].to(device)


def loaders(trainer: Trainer) -> tuple[Any, Any]:
    """Of training and of validation."""
    assert trainer.train_dataloader is not None, "validated while training"
    validation = trainer.val_dataloaders
    return trainer.train_dataloader, validation[0] if isinstance(validation, list) else validation


def states(module: Any, x: Tensor) -> list[Tensor]:
    """What comes out of each stage; of the last one the network's output."""
    found = []
    for stage in module.stages:
        x = stage(x)
        found.append(x)
    return found


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
