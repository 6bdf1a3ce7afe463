"""checkpoints/last.ckpt after every epoch, and checkpoints/best.ckpt of the best validation score so far."""

import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from costate.callbacks.best import Best


class Checkpoints(Checkpoint):
    """Keeps two checkpoints; a resumed run remembers the best score, wherever its folder has moved.

    Args:
        folder: where to keep them.
        score: the validation metric.
        mode: whether a good score is high or low.
    """

    def __init__(self, folder: Path, score: str, mode: Literal["min", "max"]):
        self.last, self.best = folder / "last.ckpt", folder / "best.ckpt"
        self.epochs = Best(score, mode)
        self.place: dict[str, int] | None = None
        self.latest: dict[str, float] = {}
        """All metrics of the latest epoch."""

    @property
    def record(self) -> dict[str, float]:
        """What is best among the epochs, see `Best`; in a multilevel run among those of the present level."""
        return self.epochs.numbers

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.latest = {k: v.item() for k, v in trainer.callback_metrics.items()}
        better = self.epochs.see(trainer.current_epoch + 1, self.latest[self.epochs.score], self.latest["val/loss"])
        trainer.save_checkpoint(self.last)
        if better and trainer.is_global_zero:
            # By way of another name: a best checkpoint is there whole or not at all.
            shutil.copyfile(self.last, self.best.with_suffix(".new"))
            self.best.with_suffix(".new").replace(self.best)
        trainer.strategy.barrier()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        assert trainer.train_dataloader is not None, "saved while training"
        checkpoint["place"] = trainer.train_dataloader.state_dict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.place = checkpoint["place"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning would do this when it makes the loader; `estimated_stepping_batches` makes it before the checkpoint
        # is read.
        if self.place is not None:
            assert trainer.train_dataloader is not None, "restored while training"
            trainer.train_dataloader.load_state_dict(self.place)

    def state_dict(self) -> dict[str, Any]:
        return {"latest": self.latest, "record": self.record, "generator": torch.get_rng_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest, self.epochs.numbers = state_dict["latest"], state_dict["record"]
        torch.set_rng_state(state_dict["generator"].cpu())

    def batches(self) -> int:
        """Batches that the last checkpoint has behind it; 0 without one."""
        return torch.load(self.last, weights_only=True, map_location="cpu")["global_step"] if self.last.exists() else 0

    def forget(self) -> None:
        """A new level: the best checkpoint is to be one of its depth."""
        self.epochs.numbers = {}

    def restore_best(self, model: LightningModule) -> None:
        """Puts the best checkpoint's weights into the model."""
        model.load_state_dict(torch.load(self.best, weights_only=True, map_location="cpu")["state_dict"])
