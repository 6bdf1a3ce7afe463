"""Callbacks that disturb a run."""

import os

from lightning.pytorch import Callback, LightningModule, Trainer


class Alarm(Callback):
    """Sends `signum` at batch `batch`, counted from 0 over all epochs."""

    def __init__(self, *, batch: int, signum: int):
        self.batch, self.signum = batch, signum

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *batch: object) -> None:
        if trainer.global_step == self.batch:
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


class Calm(Callback):
    """Does nothing."""
