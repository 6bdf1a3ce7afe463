"""What measuring callbacks share, when to measure and where the numbers go; and those that every run has."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from statistics import fmean
from typing import Any, final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer

from costate.config.settings import Count

Row = tuple[int, dict[str, float]]
"""Of a batch's number, and numbers by their names."""


class Measurement(Callback, ABC):
    """Measures every few batches, and on the last one of an epoch, between the backward passes and the step.

    Each number goes to the loggers, and its mean over the epoch to `trainer.callback_metrics`. Lightning's `log` is for
    the means alone: whatever has been logged by it is looked at again on every batch of the epoch, 25 µs a number.
    """

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
        # Innermost hooks alone are called: what is saved here is none of what PeakMemory counts of the training.
        with saved_tensors_hooks(_unchanged, _unchanged):
            measured = self.measure(pl_module)
        if not measured:
            return
        # One transfer from the device for all of them.
        numbers = dict(zip(measured, torch.stack([*measured.values()]).tolist(), strict=True))
        self.rows.append((n, numbers))
        log(trainer, n, numbers)

    @final
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        logged, waiting = self._together()
        for n, numbers in waiting:
            log(trainer, n, numbers)
        values = defaultdict(list)
        for _, numbers in logged + waiting:
            for name, number in numbers.items():
                values[name].append(number)
        pl_module.log_dict({name: fmean(found) for name, found in values.items()}, logger=False)
        self.rows, self.logged, self.waiting = [], [], []

    def _together(self) -> tuple[list[Row], list[Row]]:
        """The rows of this epoch, those that this process has logged and those of the others; all call it."""
        rows = self.execution.collect(self.rows)
        # The first ones are those of rank 0, which alone has loggers.
        own = len(self.rows)
        return self.logged + rows[:own], self.waiting + rows[own:]

    @final
    def state_dict(self) -> dict[str, Any]:
        logged, waiting = self._together()
        return {"logged": logged, "waiting": waiting}

    @final
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.logged, self.waiting = ([(n, row) for n, row in state_dict[key]] for key in ("logged", "waiting"))


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def log(trainer: Trainer, n: int, numbers: dict[str, float]) -> None:
    """Tells all loggers numbers of a batch."""
    for logger in trainer.loggers:
        logger.log_metrics({"epoch": trainer.current_epoch, **numbers}, step=n)


def watch(stages: Iterable[Any], see: Callable[[int, Tensor], None]) -> ExitStack:
    """Calls see(k, x) before stage k works on a training batch's x, until it is closed."""
    hooks = ExitStack()
    for k, stage in enumerate(stages):
        notice = lambda block, inputs, k=k: see(k, inputs[0]) if block.training else None  # noqa: E731
        hooks.callback(stage.block.register_forward_pre_hook(notice).remove)
    return hooks


@final
class TrainingScore(Callback):
    """Logs `train/loss`, of one answer, and the score, `train/accuracy`, from before a batch's step: every few batches
    those of the batch, of this process's rows alone; on the screen and in the results the epoch's mean over all answers
    of all ranks.

    Raises:
        ValueError: the loss is no number any more.
    """

    def __init__(self, *, every: Count):
        self.every = every
        # Σ answers · (loss, score, 1): what this process has seen of the epoch, and what all had when it was resumed;
        # of the latest batches as they came, each with the factor on its loss: additions by one cost more than batches.
        self.own = torch.zeros(3, dtype=torch.float64)
        self.latest: list[tuple[Tensor, Tensor, int, int]] = []
        self.before = torch.zeros(3, dtype=torch.float64)

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self.names = "train/loss", f"train/{pl_module.task.score}"
        self.strategy = trainer.strategy

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        if pl_module.seen is None:
            return
        (output, y), n, task = pl_module.seen, trainer.global_step, pl_module.task
        value, answers = pl_module.execution.loss.value, task.answers(y)
        total = task.total(output, y)
        self.latest.append((value, total, len(y), answers))
        if (n + 1) % self.every and not trainer.is_last_batch:
            return
        self._add()
        loss, score = value * len(y) / answers, (total.double() / answers).float()
        if not loss.isfinite():
            raise ValueError(f"The training loss is {loss.item()} at batch {n}: lower optimizer.lr or set clip=1.")
        log(trainer, n, dict(zip(self.names, (loss.item(), score.item()), strict=True)))
        if trainer.progress_bar_callback is not None:
            self._show(pl_module, self.before + self.own)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(pl_module, self._sums())
        self.own, self.before = torch.zeros_like(self.own), torch.zeros_like(self.before)

    def _add(self) -> None:
        if self.latest:
            losses, totals, rows, answers = zip(*self.latest, strict=True)
            sums = torch.tensor(rows, dtype=torch.float64) @ torch.stack(losses).double().cpu()
            self.own += torch.stack([sums, torch.stack(totals).double().sum().cpu(), torch.tensor(float(sum(answers)))])
            self.latest = []

    def _show(self, module: LightningModule, sums: Tensor) -> None:
        if sums[2]:
            means = (sums[:2] / sums[2]).tolist()
            module.log_dict(dict(zip(self.names, means, strict=True)), prog_bar=True, logger=False)

    def _sums(self) -> Tensor:
        """Over all ranks, which all call it."""
        self._add()
        own: Any = self.own.to(self.strategy.root_device, copy=True)
        return self.before + self.strategy.reduce(own, reduce_op="sum").cpu()

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Earlier versions have kept the rows of the epoch.
        self.before = state_dict.get("sums", self.before)


@final
class LearningRate(Measurement):
    """Logs `learning_rate`, that of the first stage's layers; it is the same on all ranks."""

    def measure(self, module: Any) -> dict[str, Tensor]:
        rate = module.trainer.optimizers[0].param_groups[0]["lr"]
        return {"learning_rate": torch.tensor(rate)} if module.trainer.is_global_zero else {}
