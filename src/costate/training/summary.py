"""The results of a run: as summary.json, and as a table on the screen."""

import platform
from importlib.metadata import version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

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
        "interface_parameters": sum(p.numel() for stage in stages for p in stage.interface.parameters()),
        "seed": config["seed"],
        "stages": config["stages"],
        "epochs": progress.processed,
        "ranks": trainer.num_devices * trainer.num_nodes,
        "device": torch.cuda.get_device_name() if trainer.strategy.root_device.type == "cuda" else "cpu",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


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
