"""The results of a run: as summary.json, and as a table on the screen."""

import platform
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
    return {
        **model.execution.account(),
        "parameters": sum(p.numel() for stage in stages for p in stage.block.parameters()),
        "flops_per_sample": sum(flops for _, flops in operations(model)),
        "interface_parameters": sum(p.numel() for stage in stages for p in stage.interface.parameters()),
        "seed": config["seed"],
        "stages": config["stages"],
        "epochs": config["epochs"],
        "ranks": trainer.num_devices * trainer.num_nodes,
        "device": torch.cuda.get_device_name() if trainer.strategy.root_device.type == "cuda" else "cpu",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


@torch.no_grad()
def operations(model: Training) -> list[tuple[Tensor, int]]:
    """What each stage gives for a sample, and the floating-point operations of its forward pass, as torch counts them:
    those of matrix products, convolutions and attention.
    """
    training, x = model.training, torch.zeros(1, *model.shape, device=model.device)
    found = []
    for stage in model.eval().stages:
        with FlopCounterMode(display=False) as counter:
            x = stage(x)
        found.append((x, counter.get_total_flops()))
    model.train(training)
    return found


def outline(model: Training) -> None:
    """Prints a line a stage: layers, parameters, operations a sample, what goes down the boundary behind it."""
    table = Table("stage", "layers", "parameters", "flops a sample", "boundary", "bytes a sample", title="Network")
    stages: Any = model.stages
    for k, (stage, (h, flops)) in enumerate(zip(stages, operations(model), strict=True)):
        parameters = sum(p.numel() for p in stage.block.parameters())
        shape = " × ".join(map(str, h.shape[1:]))
        cells = (f"{k}", f"{stage.block.layers}", f"{parameters:,}", f"{flops:,}", shape, f"{h.nbytes:,}")
        table.add_row(*cells)
    Console().print(table)


def show(results: dict[str, Any], title: str) -> None:
    """Prints the numbers: the test first."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    numbers = {k: v for k, v in results.items() if isinstance(v, int | float)}
    for name in sorted(numbers, key=lambda name: (not name.startswith("test/"), not name.startswith("val/"), name)):
        value = numbers[name]
        table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:.4g}")
    Console().print(table)
