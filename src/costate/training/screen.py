"""What a run tells of itself: its stages at first, bars or lines of 80 columns while it trains, a table at the end; and
the facts that summary.json has beside the numbers.
"""

import itertools
import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, cast, final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from costate.core.block import evaluating
from costate.training.module import Training

PACKAGES = ("costate", "torch", "lightning", "hydra-core")
COLUMNS, DIGITS, BAR = 80, 9, 41
"""Of a terminal, of a number, and of the bar in front of its numbers."""


def facts(model: Training) -> dict[str, Any]:
    """What a reader of the numbers has to know beside them."""
    config, trainer = model.hparams, model.trainer
    stages: Any = model.stages
    progress: Any = trainer.fit_loop.epoch_progress.current
    return {
        **model.execution.account(),
        "parameters": sum(p.numel() for stage in stages for p in stage.block.parameters()),
        "flops_per_sample": sum(flops for _, flops in operations(model)),
        "interface_parameters": sum(p.numel() for stage in stages for p in stage.interface.parameters()),
        "seed": config["seed"],
        # The blocks of a method's own are not the groups of layers between them.
        **({"blocks": config["method"]["blocks"]} if "blocks" in config["method"] else {"stages": config["stages"]}),
        "epochs": progress.processed,
        "ranks": trainer.num_devices * trainer.num_nodes,
        "device": torch.cuda.get_device_name() if trainer.strategy.root_device.type == "cuda" else "cpu",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


@torch.no_grad()
def operations(model: Training) -> list[tuple[Tensor, int]]:
    """What each stage gives for a sample, and the floating-point operations of its forward pass, as torch counts them:
    those of matrix products, convolutions and attention.
    """
    dtype = next(model.parameters()).dtype
    x = torch.zeros(1, *model.shape, device=model.device, dtype=dtype)
    found, stages = [], cast(Any, model.stages)
    with evaluating(model):
        for stage in stages:
            with FlopCounterMode(display=False) as counter:
                x = stage(x)
            found.append((x, counter.get_total_flops()))
    return found


def outline(model: Training) -> None:
    """Prints a line a stage: layers, parameters, operations a sample, the state at the boundary behind it, and the
    bytes of a sample that go down and up there; below them the bytes of copies.
    """
    table = Table("stage", "layers", "parameters", "flops a sample", "boundary", "bytes down", "up", title="Network")
    stages: Any = model.stages
    post = model.execution.post
    for k, (stage, (h, flops)) in enumerate(zip(stages, operations(model), strict=True)):
        parameters = sum(p.numel() for p in stage.block.parameters())
        shape = " × ".join(map(str, h.shape[1:]))
        behind: tuple[str, ...] = ()
        if k + 1 < len(stages):
            down = h.nbytes if stages[k + 1].front is None else 0
            up = 0 if post is None else sum(part.nbytes for part in post.room(h))
            behind = shape, f"{down:,}", f"{up:,}"
        table.add_row(f"{k}", f"{stage.block.layers}", f"{parameters:,}", f"{flops:,}", *behind)
    copies = sum(copies.room(i).nbytes for _, _, copies, i in model.execution.holders())
    if copies:
        table.caption = f"Copies of stages besides: {copies:,} bytes at each refresh."
    Console().print(table)


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


def _validation_first(name: str) -> tuple[int, int, str]:
    """Validation first, then training, then what else there is, short names first."""
    kinds = "val/", "train/"
    return next((i for i, kind in enumerate(kinds) if name.startswith(kind)), len(kinds)), len(name), name


def _fitting(widths: Mapping[str, int], room: int) -> list[str]:
    """The names, validation first, as many as have room beside each other."""
    names = sorted(widths, key=_validation_first)
    ends = itertools.accumulate(widths[name] for name in names)
    return [name for name, end in zip(names, ends, strict=True) if end <= room]


def show(results: dict[str, Any], last: dict[str, float], folder: str) -> None:
    """Prints what a reader wants first: score and loss of the best epoch, which is the one that was tested, and of the
    last one; how far that has come off the best; how long it took, where the run is, and how to look at it.
    """
    best = {k: v for k, v in results.items() if k.startswith(("test/", "val/"))}
    # The least loss may be that of a third epoch. Checkpoints of earlier versions say nothing of it.
    best["val/loss"] = results.get("best_epoch/val/loss", best["val/loss"])
    names = sorted({*best, *(k for k in last if k.startswith(("train/", "val/")))}, key=_tests_first)
    table = Table("")
    best_epoch, last_epoch = f"best epoch, {results.get('best_epoch', 'unknown')}", f"last epoch, {results['epochs']}"
    for column in (best_epoch, last_epoch, "gap to the best"):
        table.add_column(column, justify="right")
    for name in names:
        first, latest = best.get(name), last.get(name)
        gap = "" if first is None or latest is None else f"{latest - first:+.3g}"
        table.add_row(name, *("" if number is None else f"{number:.4g}" for number in (first, latest)), gap)
    console = Console(highlight=False, markup=False)
    console.print(folder, soft_wrap=True)
    console.print(table)
    for line in _closing(results, folder):
        console.print(line, soft_wrap=True)


def _tests_first(name: str) -> tuple[int, bool, str]:
    """Tests first, then validation, then training; in each of them the score before the loss."""
    kind, _, metric = name.partition("/")
    return ("test", "val", "train").index(kind), metric == "loss", name


def _closing(results: dict[str, Any], folder: str) -> list[str]:
    lines = []
    if results.get("least_loss_epoch") != results.get("best_epoch"):
        lines.append(f"The least val/loss was {results['val/loss']:.4g}, in epoch {results.get('least_loss_epoch')}.")
    if "fit_seconds" in results:
        rate = f", {results['samples_per_second']:,.0f} samples a second" if "samples_per_second" in results else ""
        lines.append(f"It took {results['fit_seconds']:.4g} s{rate}.")
    lines.append("All numbers: summary.json and metrics.csv there.")
    return [*lines, f"To look at it: python -m costate.reports {shlex.quote(folder)}"]
