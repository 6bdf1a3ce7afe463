"""Training on several processes against training on one: asynchronously, and by outer iterations of method=pvd."""

import argparse
import copy
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from costate.benchmarks import build, markdown, medians, write
from costate.benchmarks.contest import launch
from costate.config.composing import composed
from costate.core.block import stacked
from costate.core.method import Iteration
from costate.core.tasks import Classification
from costate.execution.serial import OneEach
from costate.pvd import InTurn
from costate.runs import RunFolder, program
from costate.training.loggers import read
from costate.training.module import stages

WAYS = {
    "backprop": ("experiment=surface_sgd",),
    "dedicated": ("experiment=surface_asynchronous", "execution.oracle=dedicated"),
    "colocated": ("experiment=surface_asynchronous", "execution.oracle=colocated"),
}
Row = dict[str, float]


def of_surface(parser: argparse.ArgumentParser) -> None:
    """Of `asynchronous`."""
    parser.add_argument("--rounds", type=int, default=3, help="pairs (default 3)")
    parser.add_argument("--epochs", type=int, default=20, help="of every run (default 20)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the results")
    parser.add_argument("settings", nargs="*", help="of all runs: optimizer.lr=0.02 execution.max_staleness=2")


def asynchronous(options: argparse.Namespace) -> None:
    """Asynchronous training of the lumpy surface against serial backpropagation: error, and time to an error, in pairs.

    Each round trains backprop in one process and then, with an oracle of its own and with a colocated one, the same
    network asynchronously, for the same number of updates of its input half. The time is that from the beginning of the
    fit to the end of the first epoch whose validation error is at most 1.5 × backprop's last one, or 0.01 where that is
    more. Writes asynchronous.json and asynchronous.md.
    """
    rounds = []
    for seed in range(options.rounds):
        rounds.append(_alternately(seed, options.epochs, options.settings))
        told = "; ".join(f"{way} {row['mse']:.4f} in {row['seconds']:.2f} s" for way, row in rounds[-1].items())
        print(f"round {seed}: {told}", flush=True)
    rows = _summary(rounds)
    print(f"\n{_table(rows)}")
    write(options.out, "asynchronous", {"rounds": rounds, "medians": rows}, _table(rows))


def _alternately(seed: int, epochs: int, settings: Sequence[str]) -> dict[str, Row]:
    """Every way once, one after the other: test error, seconds to the bar (without end if it is never met), messages
    that were lost.
    """
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as place:
        for way, own in WAYS.items():
            # Settings of the execution are not for backpropagation, which has another one.
            meant = [word for word in settings if way != "backprop" or not word.startswith("execution.")]
            words = *own, *meant, "callbacks=[throughput]", f"seed={seed}", f"epochs={epochs}"
            folder = RunFolder(program.run(Path(place) / way, *words))
            results, lines = folder.results(), read(folder.metrics)
            times, errors = ([float(row[key]) for row in lines if row.get(key)] for key in ("fit_seconds", "val/mse"))
            if way == "backprop":
                bar = max(1.5 * errors[-1], 0.01)
            reached = (seconds for seconds, error in zip(times, errors, strict=True) if error <= bar)
            rows[way] = {"mse": results["test/mse"], "seconds": min(reached, default=float("inf")), "fit": times[-1]}
            rows[way] |= {name: results.get(f"messages_{name}", 0.0) for name in ("sent", "lost")}
    return rows


def _summary(rounds: Sequence[dict[str, Row]]) -> dict[str, Row]:
    """Medians over the rounds, of ratios within a round; of the ratios the extremes too."""
    found: dict[str, Row] = medians(rounds)
    for way, row in found.items():
        for name in ("mse", "seconds"):
            ratios = [one[way][name] / one["backprop"][name] for one in rounds]
            row |= {f"{name}_ratio": statistics.median(ratios), f"{name}_most": max(ratios)}
    return found


def _table(rows: dict[str, Row]) -> str:
    """The rows as Markdown."""
    lines = []
    for way, row in rows.items():
        name = "serial backprop" if way == "backprop" else f"asynchronous, oracle {way}"
        mse, seconds = (f"{row[f'{key}_ratio']:.2f} (at most {row[f'{key}_most']:.2f})" for key in ("mse", "seconds"))
        counts = f"{row['sent']:.0f}", f"{row['lost']:.0f}"
        lines.append([name, f"{row['mse']:.4f}", mse, f"{row['seconds']:.2f}", seconds, *counts])
    head = ["", "test MSE", "× backprop", "seconds to the bar", "× backprop", "messages sent", "lost"]
    return markdown(head, lines)


def of_workers(parser: argparse.ArgumentParser) -> None:
    """Of `pvd`."""
    parser.add_argument("--workers", type=int, default=2, help="p (default 2)")
    parser.add_argument("--width", type=int, default=64, help="of the Verlet network (default 64)")
    parser.add_argument("--depth", type=int, default=64, help="of the Verlet network (default 64)")
    parser.add_argument("--rows", type=int, default=1000, help="of the outer batch (default 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of iterations (default 5)")
    parser.add_argument("--out", type=Path, help="folder for pvd.json")


def pvd(options: argparse.Namespace) -> None:
    """An outer iteration of method=pvd on p processes against the same one in series, in turn, from the same weights.

    theoretical: start, slowest worker and synchronisation of the one in series: p processes without communication;
    speed-up: series / processes, both measured; cost: measured on p processes / theoretical.

    One thread a process. While one process works in series, the others wait and use no processor.
    """
    words = [f"method.blocks={options.workers}", f"arch.width={options.width}", f"arch.depth={options.depth}"]
    cfg = composed("arch=verlet", "method=pvd", *words)
    rounds = launch(options.workers, 1, _iterations, cfg, options.rows, options.rounds)
    print(f"verlet, width {options.width}, depth {options.depth}, p = {options.workers}, {options.rows} rows")
    print(f"{'series':>8} {'processes':>10} {'theoretical':>12} {'communication':>14} {'speed-up':>9} {'cost':>6}")
    found = []
    for series, processes in rounds:
        one, several, ideal = series["measured"], processes["measured"], series["theoretical"]
        row = {"series": one, "processes": several, "theoretical": ideal, "communication": processes["communication"]}
        found.append(row | {"speed-up": one / several, "cost": several / ideal})
        print("{series:8.2f} {processes:10.2f} {theoretical:12.2f} {communication:14.3f}".format(**row), end="")
        print(f" {one / several:9.3f} {several / ideal:6.3f}")
    for name in ("speed-up", "cost"):
        print(f"median {name} {statistics.median(row[name] for row in found):.3f}")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "pvd.json").write_text(json.dumps(found, indent=2) + "\n")


def _iterations(cfg: Any, rows: int, rounds: int) -> list[tuple[Row, Row]]:
    """Seconds of an iteration in series, on the first rank, and of one on all ranks, so many times."""
    torch.manual_seed(0)
    rule, shape, classes = build(cfg.method), (1, 28, 28), 10
    blocks = rule.cut(build(cfg.arch, shape, classes), cfg.stages, cfg.balance)
    parts = nn.ModuleList(stages(blocks, shape, Classification(classes), rule))
    start = copy.deepcopy(parts.state_dict())
    generator = torch.Generator().manual_seed(1)
    batch = torch.randn(rows, *shape, generator=generator), torch.randint(classes, (rows,), generator=generator)
    series, processes = (rule.iteration(SimpleNamespace(stages=parts, team=team)) for team in (InTurn, OneEach))

    def once(iteration: Iteration, works: bool) -> Row:
        dist.barrier()
        parts.load_state_dict(start)
        if works:
            iteration.gradient(0, *batch, ahead=0)
            iteration.advance(build(cfg.optimizer)([{"params": list(parts.parameters())}], stacked(parts)))
        return {name.removeprefix("pvd/seconds/"): value for name, value in iteration.report().items()}

    return [(once(series, dist.get_rank() == 0), once(processes, True)) for _ in range(rounds + 1)][1:]
