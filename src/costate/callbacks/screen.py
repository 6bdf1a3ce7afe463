"""What a run shows while it trains: bars of 80 columns that count epochs from 1, or a line for each epoch."""

from typing import Any, final

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

FIRST = ("val/", "train/loss")
"""What is shown in front of the rest: a terminal cuts off what has no room."""


def epoch(trainer: Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}"


def numbers(bar: ProgressBar, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """Of the latest validation and of the latest batches, three digits each."""
    shown = trainer.progress_bar_metrics
    order = sorted(shown, key=lambda name: ([not name.startswith(first) for first in FIRST], name))
    return {name: f"{shown[name]:.3g}" for name in order}


@final
class Bar(TQDMProgressBar):
    """One bar, of the training; the validation's would come and go with every epoch."""

    BAR_FORMAT = "{desc}{percentage:3.0f}%|{bar:8}| {rate_fmt}{postfix}"

    @property
    def train_description(self) -> str:
        return "epoch"

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def on_train_epoch_start(self, trainer: Trainer, *modules: Any) -> None:
        self.train_progress_bar.set_description(epoch(trainer), refresh=False)
        self.train_progress_bar.reset(self.total_train_batches)

    get_metrics = numbers


@final
class RichBar(RichProgressBar):
    """The prettier one."""

    def _get_train_description(self, current_epoch: int) -> str:
        return epoch(self.trainer)

    get_metrics = numbers


class Lines(Callback):
    """Epoch, loss and score, of training and of validation; in 50 lines at most, and as readable in a file."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        if done % -(-epochs // 50) == 0 or done == epochs:
            shown = sorted(trainer.progress_bar_metrics.items())
            told = "  ".join(f"{name} {value:.4g}" for name, value in shown if isinstance(value, float))
            pl_module.print(f"{epoch(trainer)}  {told}")
