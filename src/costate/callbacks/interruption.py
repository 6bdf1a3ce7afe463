"""Ctrl-C and SIGTERM: stop between two batches, with a checkpoint that goes on as if nothing had been."""

import os
import signal
from types import FrameType
from typing import Any, final

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from costate.callbacks.checkpoints import Checkpoints


class Interrupted(SystemExit):
    """A run has stopped because it was asked to: exit code 128 + the signal's number, as a shell has it."""


@final
class Interruption(Checkpoint):
    """Saves behind the batch at which all processes stop after a signal, and leaves; a second one ends it at once.

    It is a `Checkpoint` because Lightning calls those last: the checkpoint holds what the other callbacks have counted.

    Args:
        checkpoints: they keep the one to resume from.
        advice: what to tell the user.
    """

    def __init__(self, checkpoints: Checkpoints, advice: str):
        self.checkpoints, self.advice = checkpoints, advice
        self.signum = 0
        self.saved = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Here and not before: Lightning has just set its own handlers. It puts back at the end what was there first.
        self.execution: Any = pl_module.execution
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._note)

    on_test_start = on_train_start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.execution.stopping:
            self.checkpoints.save(trainer)
            self.saved = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # One hook later: what was measured on the batch has been written, and at the end of an epoch its validation and
        # the checkpoint that has seen it. After the last epoch comes the test.
        if self.saved:
            self.execution.disconnect()
        self._leave_if_saved(trainer)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any) -> None:
        # The last checkpoint is that of the finished training.
        self.saved = bool(trainer.strategy.reduce_boolean_decision(bool(self.signum), all=False))
        self._leave_if_saved(trainer)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self.signum = signum
        self.execution.stop()

    def _leave_if_saved(self, trainer: Trainer) -> None:
        if not self.saved:
            return
        if trainer.is_global_zero:
            os.write(2, f"\n{self.advice}\n".encode())
        raise Interrupted(128 + (self.signum or signal.SIGTERM))
