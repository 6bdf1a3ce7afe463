"""Callbacks that disturb a run."""

import os
import time
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer


class Alarm(Callback):
    """Sends `signum` at batch `batch`, counted from 0 over all epochs, to the process that is rank `rank`."""

    def __init__(self, *, batch: int, signum: int, rank: int = 0):
        self.batch, self.signum, self.rank = batch, signum, rank

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *batch: object) -> None:
        if trainer.global_step == self.batch and int(os.environ.get("RANK", "0")) == self.rank:
            self.ring()

    def ring(self) -> None:
        os.kill(os.getpid(), self.signum)


class AlarmInTest(Callback):
    """Sends `signum` in a test."""

    def __init__(self, *, signum: int):
        self.signum = signum

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, *batch: object) -> None:
        os.kill(os.getpid(), self.signum)


class Surprise(Callback):
    """Raises a ValueError that is nobody's sentence."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        int("x")


class Fault(Callback):
    """Raises a LookupError behind batch `batch`, counted from 0 over all epochs, on rank `rank`."""

    def __init__(self, *, batch: int, rank: int):
        self.batch, self.rank = batch, rank

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: object) -> None:
        if trainer.global_step == self.batch and int(os.environ.get("RANK", "0")) == self.rank:
            raise LookupError("nothing there")


class Calm(Callback):
    """Does nothing."""


class Pause(Callback):
    """Takes its time behind each batch, for somebody to press Ctrl-C."""

    def on_train_batch_end(self, *arguments: object) -> None:
        time.sleep(0.1)


class AlarmOnce(Alarm):
    """Rings once in the life of a run folder, however often the run is started."""

    def __init__(self, *, batch: int, signum: int, rank: int, mark: str):
        super().__init__(batch=batch, signum=signum, rank=rank)
        self.mark = Path(mark)

    def ring(self) -> None:
        if not self.mark.exists():
            self.mark.touch()
            super().ring()


class Enough(Callback):
    """Ends training behind so many epochs, as a user's callback may."""

    def __init__(self, *, epochs: int):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs
