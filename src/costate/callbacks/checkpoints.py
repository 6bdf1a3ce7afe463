"""What is kept of a run: checkpoints/last.ckpt after every epoch, or where it is interrupted; best.ckpt of the best."""

import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any, Literal, final

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from costate.execution.base import Execution
from costate.execution.launching.supervisor import Listener, is_supervised, tell
from costate.runs.files import beside, replace, writing


@final
class Best:
    """What is kept of the epochs so far. A loss is minimised: it is taken at its own minimum, whatever the score was.

    Attributes:
        numbers: the best score under its own name and `best_epoch`, counted from 1, with `best_epoch/val/loss`; the
            least `val/loss` of all epochs and `least_loss_epoch`. Empty before the first epoch.
    """

    def __init__(self, score: str, mode: Literal["min", "max"]):
        self.score, self.sign = score, 1.0 if mode == "max" else -1.0
        self.numbers: dict[str, float] = {}

    def see(self, epoch: int, score: float, loss: float) -> bool:
        """Takes the epoch in; whether it is the best one by now."""
        kept = self.numbers
        # Checkpoints of earlier versions know of one loss.
        better = not kept or (self.sign * score, -loss) > (
            self.sign * kept[self.score],
            -kept.get("best_epoch/val/loss", kept["val/loss"]),
        )
        if better:
            self.numbers = kept | {self.score: score, "best_epoch": epoch, "best_epoch/val/loss": loss}
        if not kept or loss < kept["val/loss"]:
            self.numbers = self.numbers | {"val/loss": loss, "least_loss_epoch": epoch}
        return better


class Checkpoints(Checkpoint):
    """Keeps two checkpoints; a resumed run remembers the best score, wherever its folder has moved.

    A checkpoint is written beside its predecessor and takes its place one hook later: what was measured before it has
    then been written, so that a run which is killed at any moment finds all numbers up to its last checkpoint.
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
        score, loss = self.latest[self.epochs.score], self.latest["val/loss"]
        self._better = self.epochs.see(trainer.current_epoch + 1, score, loss)
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

    def on_save_checkpoint(self, trainer: Any, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["place"] = trainer.train_dataloader.state_dict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.place = checkpoint["place"]

    def on_train_start(self, trainer: Any, pl_module: LightningModule) -> None:
        # Lightning would, but that `estimated_stepping_batches` makes the loader before the checkpoint is read.
        if self.place is not None:
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
        model.load_state_dict(torch.load(self.best, weights_only=True, map_location="cpu")["state_dict"])


class Interrupted(SystemExit):
    """A run has stopped because it was asked to: exit code 128 + the signal's number, as a shell has it."""


@final
class Interruption(Checkpoint):
    """Saves behind the batch at which all processes stop after a signal, and leaves; a second one ends it at once.

    It is a `Checkpoint` because Lightning calls those last: the checkpoint holds what the other callbacks have counted.
    Its listener is to be entered for as long as signals are to be heeded.
    """

    def __init__(self, checkpoints: Checkpoints, execution: Execution, advice: str):
        self.checkpoints, self.execution, self.advice = checkpoints, execution, advice
        self.listener = Listener(self._stop, self._again, all=is_supervised())
        self.saved = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.execution.stopping:
            self.checkpoints.save(trainer)
            self.saved = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # One hook later: what was measured on the batch has been written, and at the end of an epoch its validation and
        # the checkpoint that has seen it. After the last epoch comes the test.
        if self.saved:
            self.execution.disconnect()
            self._leave(trainer)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any) -> None:
        # The last checkpoint is that of the finished training.
        if trainer.strategy.reduce_boolean_decision(bool(self.listener.signum), all=False):
            self._leave(trainer)

    def _stop(self, signum: int) -> None:
        self.execution.stop()
        tell(signum)

    def _again(self, signum: int) -> None:
        # Of several ranks the supervisor knows which signal is the second one.
        if not is_supervised():
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _leave(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            os.write(2, f"\n{self.advice}\n".encode())
            if not is_supervised():
                self.listener.hand_over()
        raise Interrupted(128 + (self.listener.signum or signal.SIGTERM))
