"""An outer iteration of method=pvd on p processes against the same one in series, alternately, from the same weights.

    theoretical   start, slowest worker and synchronisation of the one in series: p processes without communication
    speed-up      series / processes, both measured
    cost          measured on p processes / theoretical

One thread a process. While one process works in series, the others wait and use no processor.
"""

import argparse
import copy
import json
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from hydra.utils import instantiate
from torch import nn

from costate.benchmarks import epochs
from costate.benchmarks.pipeline import launch
from costate.config.composing import composed
from costate.core.method import Iteration
from costate.core.tasks import Classification
from costate.execution.parallel import OneEach
from costate.pvd import InTurn
from costate.training.module import stages

SHAPE, CLASSES = (1, 28, 28), 10
Rounds = list[tuple[dict[str, float], dict[str, float]]]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=2, help="p (default 2)")
    parser.add_argument("--width", type=int, default=64, help="of the Verlet network (default 64)")
    parser.add_argument("--depth", type=int, default=64, help="of the Verlet network (default 64)")
    parser.add_argument("--rows", type=int, default=1000, help="of the outer batch (default 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of iterations (default 5)")
    parser.add_argument("--out", type=Path, help="folder for pvd.json")


def run(options: argparse.Namespace) -> None:
    """Prints the seconds of each pair and the medians of the ratios."""
    words = [f"method.blocks={options.workers}", f"arch.width={options.width}", f"arch.depth={options.depth}"]
    cfg = composed("arch=verlet", "method=pvd", *words)
    rounds: Rounds = launch(options.workers, 1, _measure, cfg, options.rows, options.rounds)
    print(f"verlet, width {options.width}, depth {options.depth}, p = {options.workers}, {options.rows} rows")
    print(f"{'series':>8} {'processes':>10} {'theoretical':>12} {'communication':>14} {'speed-up':>9} {'cost':>6}")
    found = [_ratios(*pair) for pair in rounds]
    for row in found:
        print("{series:8.2f} {processes:10.2f} {theoretical:12.2f} {communication:14.3f}".format(**row), end="")
        print(f" {row['speed-up']:9.3f} {row['cost']:6.3f}")
    for name in ("speed-up", "cost"):
        print(f"median {name} {statistics.median(row[name] for row in found):.3f}")
    if options.out is not None:
        _write(options.out / "pvd.json", found)


def _ratios(series: dict[str, float], processes: dict[str, float]) -> dict[str, float]:
    one, several, ideal = series["measured"], processes["measured"], series["theoretical"]
    row = {"series": one, "processes": several, "theoretical": ideal, "communication": processes["communication"]}
    return row | {"speed-up": one / several, "cost": several / ideal}


def _measure(cfg: Any, rows: int, rounds: int) -> Rounds:
    """Seconds of an iteration in series, on the first rank, and of one on all ranks, so many times."""
    torch.manual_seed(0)
    rule = epochs.build(cfg.method)
    network = epochs.build(cfg.arch, SHAPE, CLASSES)
    parts = nn.ModuleList(stages(rule.cut(network, cfg.stages, cfg.balance), SHAPE, Classification(CLASSES), rule))
    start = copy.deepcopy(parts.state_dict())
    generator = torch.Generator().manual_seed(1)
    batch = torch.randn(rows, *SHAPE, generator=generator), torch.randint(CLASSES, (rows,), generator=generator)
    series, processes = (rule.iteration(SimpleNamespace(stages=parts, team=team)) for team in (InTurn, OneEach))

    def once(iteration: Iteration, works: bool) -> dict[str, float]:
        dist.barrier()
        parts.load_state_dict(start)
        if works:
            iteration.gradient(0, *batch, more=False)
            iteration.advance(instantiate(cfg.optimizer, _convert_="all")([{"params": list(parts.parameters())}]))
        return {name.removeprefix("pvd/seconds/"): value for name, value in iteration.report().items()}

    found = [(once(series, dist.get_rank() == 0), once(processes, True)) for _ in range(rounds + 1)]
    return found[1:]


def _write(path: Path, rows: list[dict[str, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=2) + "\n")
