"""checkpoints/last.ckpt after every epoch, and checkpoints/best.ckpt of the best validation score so far."""

import shlex
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from costate.callbacks.best import Best
from costate.runs.writing import beside, replace, writing


class Checkpoints(Checkpoint):
    """Keeps two checkpoints; a resumed run remembers the best score, wherever its folder has moved.

    A checkpoint is written beside its predecessor and takes its place one hook later: what was measured before it has
    then been written, so that a run which is killed at any moment finds all numbers up to its last checkpoint.

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
        self._saved = self._better = False

    @property
    def record(self) -> dict[str, float]:
        """What is best among the epochs, see `Best`; in a multilevel run among those of the present level."""
        return self.epochs.numbers

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.latest = {k: v.item() for k, v in trainer.callback_metrics.items()}
        epochs = self.epochs
        self._better = epochs.see(trainer.current_epoch + 1, self.latest[epochs.score], self.latest["val/loss"])
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Writes the checkpoint that is soon to be the last one."""
        trainer.save_checkpoint(beside(self.last))
        self._saved = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._publish(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._publish(trainer)
        trainer.strategy.barrier()

    def _publish(self, trainer: Trainer) -> None:
        if self._saved and trainer.is_global_zero:
            # The best one first: a last one that knows of a better score must find its weights.
            if self._better:
                with beside(self.last).open("rb") as source, writing(beside(self.best)) as file:
                    shutil.copyfileobj(source, file)
                replace(self.best)
            replace(self.last)
        self._saved = self._better = False

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

    def batches(self, epochs: int) -> int:
        """Batches that the last checkpoint has behind it; 0 without one.

        Raises:
            ValueError: it has more epochs behind it than there are to be; or it is damaged.
        """
        if not self.last.exists():
            return 0
        try:
            checkpoint = torch.load(self.last, weights_only=True, map_location="cpu")
            done, batches = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"], checkpoint["global_step"]
        except Exception as fault:  # torch's errors over damaged files are of many types
            advice = f"cp {shlex.join(map(str, (self.best, self.last)))} lets the run go on from its best epoch"
            raise ValueError(f"{self.last} is damaged ({type(fault).__name__}): {advice}.") from fault
        if epochs < done["processed"]:
            raise ValueError(f"epochs={epochs} is less than the {done['processed']} that are done.")
        return batches

    def forget(self) -> None:
        """A new level: the best checkpoint is to be one of its depth."""
        self.epochs.numbers = {}

    def restore_best(self, model: LightningModule) -> None:
        """Puts the best checkpoint's weights into the model."""
        model.load_state_dict(torch.load(self.best, weights_only=True, map_location="cpu")["state_dict"])
