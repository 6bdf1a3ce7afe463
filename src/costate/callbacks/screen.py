"""What a run shows while it trains: bars of 80 columns that count epochs from 1, or a line for each epoch."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, final

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

COLUMNS, DIGITS, BAR = 80, 9, 41
"""Of a terminal, of a number, and of the bar in front of its numbers."""


def epoch(trainer: Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}"


def numbers(bar: ProgressBar, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """Of the latest validation and of the epoch so far, three digits each, as many as have room behind the bar."""
    shown = {name: f"{value:.3g}" for name, value in trainer.progress_bar_metrics.items()}
    widths = {name: len(f", {name}={number}") for name, number in shown.items()}
    return {name: shown[name] for name in _fitting(widths, COLUMNS - BAR)}


@final
class Bar(TQDMProgressBar):
    """One bar, of the training; those of validation and test come and go."""

    BAR_FORMAT = "{desc}{percentage:3.0f}%|{bar:8}| {rate_fmt}{postfix}"

    @property
    def train_description(self) -> str:
        return "epoch"

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    init_test_tqdm = init_validation_tqdm

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
    """A line an epoch under the names of its numbers, losses and scores; in 50 lines at most, as readable in a file."""

    names: Sequence[str] = ()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        if done % -(-epochs // 50) and done != epochs:
            return
        shown, begin = trainer.progress_bar_metrics, epoch(trainer)
        names = _fitting({name: 1 + max(DIGITS, len(name)) for name in shown}, COLUMNS - len(begin))
        if names != self.names:
            pl_module.print(" " * len(begin) + "".join(f" {name:>{DIGITS}}" for name in names))
            self.names = names
        pl_module.print(begin + "".join(f" {shown[name]:>{max(DIGITS, len(name))}.4g}" for name in names))


def _place(name: str) -> tuple[int, int, str]:
    """Validation first, then training, then what else there is, short names first."""
    kinds = "val/", "train/"
    return next((i for i, kind in enumerate(kinds) if name.startswith(kind)), len(kinds)), len(name), name


def _fitting(widths: Mapping[str, int], room: int) -> list[str]:
    """As many names, in the order of their places, as have room beside each other."""
    names = sorted(widths, key=_place)
    ends = itertools.accumulate(widths[name] for name in names)
    return [name for name, end in zip(names, ends, strict=True) if end <= room]
