"""What measuring callbacks share, when to measure and where the numbers go; and those that every run has."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from statistics import fmean
from typing import Any, ClassVar, final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from costate.config.settings import Count

Row = tuple[int, dict[str, float]]
"""Of a batch's number, and numbers by their names."""


class Measurement(Callback, ABC):
    """Measures every few batches, and on the last one of an epoch, between the backward passes and the step.

    Each number goes to the loggers, and its mean over the epoch to `trainer.callback_metrics`. Lightning's `log` is for
    the means alone: whatever has been logged by it is looked at again on every batch of the epoch, 25 µs a number.

    Args:
        every: batches from one measurement to the next.

    Attributes:
        shown: whether the numbers are for the progress bar and the line of an epoch.
    """

    shown: ClassVar[bool] = False

    def __init__(self, *, every: Count):
        self.every = every
        # What this process has measured in this epoch since it was started; and what all had when the run was resumed:
        # the first one, which has logged it, and the others, whose rows are logged at the epoch's end.
        self.rows: list[Row] = []
        self.logged: list[Row] = []
        self.waiting: list[Row] = []

    @abstractmethod
    def measure(self, module: Any) -> dict[str, Tensor]:
        """Numbers by the names under which they are logged."""

    @final
    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self.execution = pl_module.execution

    @final
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        n = trainer.global_step
        if (n + 1) % self.every and not trainer.is_last_batch:
            return
        measured = self.measure(pl_module)
        if not measured:
            return
        # One transfer from the device for all of them.
        numbers = dict(zip(measured, torch.stack([*measured.values()]).tolist(), strict=True))
        self.rows.append((n, numbers))
        self._log(trainer, n, numbers)
        if self.shown and trainer.progress_bar_callback is not None:
            pl_module.log_dict(numbers, prog_bar=True, logger=False)

    @final
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        logged, waiting = self._together()
        for n, numbers in waiting:
            self._log(trainer, n, numbers)
        values = defaultdict(list)
        for name, number in (item for _, numbers in logged + waiting for item in numbers.items()):
            values[name].append(number)
        means = {name: fmean(numbers) for name, numbers in values.items()}
        pl_module.log_dict(means, prog_bar=self.shown, logger=False)
        self.rows, self.logged, self.waiting = [], [], []

    def _together(self) -> tuple[list[Row], list[Row]]:
        """The rows of this epoch, those that this process has logged and those of the others; all call it."""
        rows = self.execution.collect(self.rows)
        # Its own rows are the first ones.
        own = len(self.rows)
        return self.logged + rows[:own], self.waiting + rows[own:]

    def _log(self, trainer: Trainer, n: int, numbers: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": trainer.current_epoch, **numbers}, step=n)

    @final
    def state_dict(self) -> dict[str, Any]:
        logged, waiting = self._together()
        return {"logged": logged, "waiting": waiting}

    @final
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.logged, self.waiting = ([(n, row) for n, row in state_dict[key]] for key in ("logged", "waiting"))


def watch(stages: Iterable[Any], see: Callable[[int, Tensor], None]) -> ExitStack:
    """Calls see(k, x) before stage k works on a training batch's x, until it is closed."""
    hooks = ExitStack()
    for k, stage in enumerate(stages):
        notice = lambda block, inputs, k=k: see(k, inputs[0]) if block.training else None  # noqa: E731
        hooks.callback(stage.block.register_forward_pre_hook(notice).remove)
    return hooks


@final
class TrainingScore(Measurement):
    """Logs `train/loss`, of one answer, and the score of the batch, `train/accuracy`, from before the batch's step.

    Of this process's rows alone: replicas do not wait for each other here.

    Raises:
        ValueError: the loss is no number any more.
    """

    shown = True

    def measure(self, module: Any) -> dict[str, Tensor]:
        if module.seen is None:
            return {}
        output, y = module.seen
        loss, n, task = module.execution.stages[-1].interface.value, module.trainer.global_step, module.task
        if not loss.isfinite():
            raise ValueError(f"The training loss is {loss.item()} at batch {n}: lower optimizer.lr or set clip=1.")
        loss = loss * len(y) / task.answers(y)
        return {"train/loss": loss, f"train/{task.score}": task.metric().to(output.device)(output, y)}


@final
class LearningRate(Measurement):
    """Logs `learning_rate`, that of the first stage's layers; it is the same on all ranks."""

    def measure(self, module: Any) -> dict[str, Tensor]:
        rate = module.trainer.optimizers[0].param_groups[0]["lr"]
        return {"learning_rate": torch.tensor(rate)} if module.trainer.is_global_zero else {}
