"""What changes the course of a training: an early end, sequences that become longer, one batch over and over."""

import math
from typing import Any, Literal, final

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from costate.config.settings import Amount, Count, Rate
from costate.core.tasks import SILENT


@final
class Stopping(EarlyStopping):
    """Lightning's EarlyStopping, which also ends a run whose validation gives no finite number; a run that it has ended
    is not gone on with when it is resumed. Of several levels it watches the last one alone.

    Attributes:
        waits: whether the present level is another one.
    """

    def __init__(self, *, monitor: str, mode: Literal["min", "max"], patience: Count, min_delta: Amount):
        super().__init__(monitor, mode=mode, patience=patience, min_delta=min_delta, check_on_train_epoch_end=True)
        self.waits = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopped_epoch or self.wait_count >= self.patience:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.waits:
            super().on_train_epoch_end(trainer, pl_module)


AVERAGED = 10
"""Batches that b remembers."""


@final
class Curriculum(Callback):
    """One step of the data's own measure whenever the lengths that there are have been solved.

    b ← 0.9 b + 0.1 (bits of the latest joint batch, a symbol that is asked for);   solved: b < threshold

    Raises the data's `length`, and logs `solved`, the greatest one that has been solved, and `length_bits`, b.
    Jaderberg et al. (2017) have a threshold of 0.15.
    """

    def __init__(self, *, threshold: Rate):
        self.threshold, self.solved, self.bits = threshold, 0, math.inf

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        data = trainer.datamodule
        symbols = (batch[1] != SILENT).sum().item() / len(batch[1])
        # Of the joint batch: ranks that each went by their own rows would take sequences of different lengths.
        loss = trainer.strategy.reduce(pl_module.execution.loss.value.clone(), reduce_op="mean")
        bits = loss.item() / symbols / math.log(2)
        self.bits = bits if self.bits == math.inf else self.bits + (bits - self.bits) / AVERAGED
        if self.bits < self.threshold:
            self.solved, self.bits = data.length, math.inf
            data.length = min(data.length + 1, data.longest)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log_dict({"solved": float(self.solved), "length_bits": min(self.bits, 99.0)}, prog_bar=True)

    def state_dict(self) -> dict[str, Any]:
        return {"solved": self.solved, "bits": self.bits}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.solved, self.bits = state_dict["solved"], state_dict["bits"]


class OneBatch(Callback):
    """Every epoch begins with the batch of the first; with `trainer.train_batches=1` that is all there is."""

    def on_train_epoch_start(self, trainer: Any, pl_module: LightningModule) -> None:
        trainer.train_dataloader.set_epoch(0)
