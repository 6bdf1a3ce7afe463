"""An end before the last epoch, where the validation gets no better."""

from typing import Literal, final

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from costate.config.settings import Amount, Count


@final
class Stopping(EarlyStopping):
    """Lightning's EarlyStopping, which also ends a run whose validation gives no finite number; a run that it has ended
    is not gone on with when it is resumed.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopped_epoch or self.wait_count >= self.patience:
            trainer.should_stop = True


def early_stopping(*, monitor: str, mode: Literal["min", "max"], patience: Count, min_delta: Amount) -> EarlyStopping:
    return Stopping(monitor, mode=mode, patience=patience, min_delta=min_delta)
