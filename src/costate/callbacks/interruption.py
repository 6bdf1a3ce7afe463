"""Ctrl-C and SIGTERM: stop between two batches, with a checkpoint that goes on as if nothing had been."""

import os
import signal
from typing import Any, final

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from costate.callbacks.checkpoints import Checkpoints
from costate.execution.base import Execution
from costate.execution.launching.supervisor import Listener, is_supervised, tell


class Interrupted(SystemExit):
    """A run has stopped because it was asked to: exit code 128 + the signal's number, as a shell has it."""


@final
class Interruption(Checkpoint):
    """Saves behind the batch at which all processes stop after a signal, and leaves; a second one ends it at once.

    It is a `Checkpoint` because Lightning calls those last: the checkpoint holds what the other callbacks have counted.

    Args:
        checkpoints: they keep the one to resume from.
        execution: stops all processes behind the same batch.
        advice: what to tell the user.

    Attributes:
        listener: to be entered for as long as signals are to be heeded.
    """

    def __init__(self, checkpoints: Checkpoints, execution: Execution, advice: str):
        self.checkpoints, self.execution, self.advice = checkpoints, execution, advice
        self.listener = Listener(self._stop, self._again, all=is_supervised())
        self.saved = False

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
        asked = bool(self.listener.signum)
        self.saved = bool(trainer.strategy.reduce_boolean_decision(asked, all=False))
        self._leave_if_saved(trainer)

    def _stop(self, signum: int) -> None:
        self.execution.stop()
        tell(signum)

    def _again(self, signum: int) -> None:
        # Of several ranks the supervisor knows which signal is the second one.
        if not is_supervised():
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _leave_if_saved(self, trainer: Trainer) -> None:
        if not self.saved:
            return
        if trainer.is_global_zero:
            os.write(2, f"\n{self.advice}\n".encode())
            if not is_supervised():
                self.listener.hand_over()
        raise Interrupted(128 + (self.listener.signum or signal.SIGTERM))
