"""The results of a run: as summary.json, and as a table on the screen."""

import platform
import shlex
from importlib.metadata import version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from costate.training.module import Training

PACKAGES = ("costate", "torch", "lightning", "hydra-core")


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
    training, x = model.training, torch.zeros(1, *model.shape, device=model.device, dtype=dtype)
    found = []
    for stage in model.eval().stages:
        with FlopCounterMode(display=False) as counter:
            x = stage(x)
        found.append((x, counter.get_total_flops()))
    model.train(training)
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


def show(results: dict[str, Any], last: dict[str, float], folder: str) -> None:
    """Prints what a reader wants first: score and loss of the best epoch, which is the one that was tested, and of the
    last one; how far that has come off the best; how long it took, where the run is, and how to look at it.
    """
    best = {k: v for k, v in results.items() if k.startswith(("test/", "val/"))}
    # The least loss may be that of a third epoch. Checkpoints of earlier versions say nothing of it.
    best["val/loss"] = results.get("best_epoch/val/loss", best["val/loss"])
    names = sorted({*best, *(k for k in last if k.startswith(("train/", "val/")))}, key=_place)
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


def _place(name: str) -> tuple[int, bool, str]:
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
