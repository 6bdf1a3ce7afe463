"""One stage a process against the other ways to use two cores, measured alternately, in fresh processes each round.

A row's time is that of a batch in a run of some seconds, median over the rounds; ratios are formed within a round and
then the median taken. Every way trains the same network on the same batches with the same
fused optimizer; torch's own schedules appear at their best number of micro-batches.
"""

import argparse
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe

from costate.benchmarks import markdown, write
from costate.benchmarks.contest import REFRESH, Autograd, Contestant, Ddp, Setting, Stages, TorchPipeline, launch, pace
from costate.config.composing import composed
from costate.reports import benchmarks as figures

SECONDS, STEPS, MICRO_BATCHES = 2.5, 10, (2, 4, 8)
METHODS = {
    "backprop": ["method=backprop"],
    "coarse": ["method=coarse", f"method.refresh={REFRESH}"],
    "delayed": ["method=delayed"],
    "delayed by 2": ["method=delayed", "method.delay=2"],
    "replay": ["method=replay"],
    "petra": ["method=petra"],
}
BASE, OURS = "serial backprop, 1 thread", "pipeline sg"
Rows = dict[str, dict[str, float | None]]
Nodes = dict[str, dict[str, Any]]

DIGITS = (1, 28, 28), 10
CASES: dict[str, tuple[str, int, tuple[tuple[int, ...], int], str]] = {
    # The first stage has the opening and the synthesizer.
    "w64d64": ("verlet, width 64, depth 64, batch 256", 256, DIGITS, "arch.width=64 arch.depth=64 balance=[31,33]"),
    "w4d512": ("verlet, width 4, depth 512, batch 256", 256, ((2,), 2), "arch.width=4 arch.depth=512"),
    **{
        f"w{width}d{depth}": (
            f"verlet, width {width}, depth {depth}, batch {batch}, low-rank synthesizer",
            batch,
            DIGITS,
            f"arch.width={width} arch.depth={depth} method/synthesizer=lowrank",
        )
        for width, depth, batch in ((784, 32, 512), (256, 16, 256))
    },
    "conv16d16": (
        "convolutional verlet, 16 channels, depth 16, batch 128, pooled synthesizer",
        128,
        DIGITS,
        "arch/form=conv arch.width=16 arch.depth=16 method/synthesizer=pooled",
    ),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="networks to measure")
    parser.add_argument("--ways", nargs="+", default=[""], help="beginnings of the names of the ways to measure")
    parser.add_argument("--settings", nargs="+", default=[], help="of the networks: balance=[30,34]")
    parser.add_argument("--coarse", nargs="+", default=[], help="of coarse copies: method.factor=8 method.step=1")
    parser.add_argument("--rounds", type=int, default=5, help="launches of each way (default 5)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the results")


def run(options: argparse.Namespace) -> None:
    """Prints a table for each network, and writes pipeline.json, pipeline.md and pipeline.png."""
    results: dict[str, Any] = {}
    methods = methods_of(options.coarse)
    for case in options.cases:
        setting = setting_of(case, *options.settings)
        print(f"\n{setting.name}; {SECONDS} s and {STEPS} batches a row at least, {options.rounds} rounds", flush=True)
        rounds = [alternately(setting, methods, (*options.ways, BASE)) for _ in range(options.rounds)]
        results[case] = {"name": setting.name, "cores": os.cpu_count(), "rows": summary(rounds)}
        print(table(results[case]["rows"]), flush=True)
        text = "\n\n".join(f"{found['name']}\n\n{table(found['rows'])}" for found in results.values())
        write(options.out, "pipeline", results, text, whole=figures.speed_ups(results))


def setting_of(case: str, *settings: str) -> Setting:
    """The network of a case."""
    name, batch, (shape, classes), words = CASES[case]
    cfg = composed("arch=verlet", "method=sg", *words.split(), *settings)
    nodes: Any = (OmegaConf.to_container(cfg[axis], resolve=True) for axis in ("arch", "method", "optimizer"))
    arch, method, optimizer = nodes
    return Setting(name, arch, method, optimizer, shape, classes, batch, cfg.balance)


def nodes_of(methods: dict[str, list[str]]) -> Nodes:
    """Of the configuration, for methods by the words that choose them."""
    cfgs = {name: composed(*words).method for name, words in methods.items()}
    nodes: Any = {name: OmegaConf.to_container(cfg, resolve=True) for name, cfg in cfgs.items()}
    return nodes


def methods_of(coarse: Sequence[str]) -> Nodes:
    """All of METHODS, with these settings of coarse copies."""
    return nodes_of(METHODS | {"coarse": [*METHODS["coarse"], *coarse]})


def alternately(setting: Setting, methods: Nodes, ways: tuple[str, ...]) -> Rows:
    """Every way whose name begins like that once, in fresh processes."""
    rows: Rows = {}
    rows |= launch(1, 1, _alone, setting, "1 thread", ways)
    rows |= launch(1, os.cpu_count() or 1, _alone, setting, "all threads", ways)
    rows |= launch(2, 1, _together, setting, methods, ways)
    return rows


def _alone(setting: Setting, label: str, ways: tuple[str, ...]) -> Rows:
    made = {
        f"serial backprop, {label}": lambda: Autograd(setting),
        f"serial sg, {label}": lambda: Stages(setting, setting.method, lag=1, apart=False),
    }
    return {name: _row(make()) for name, make in made.items() if name.startswith(ways)}


def _together(setting: Setting, methods: Nodes, ways: tuple[str, ...]) -> Rows:
    made: dict[str, Callable[[], Contestant]] = {OURS: lambda: Stages(setting, setting.method, lag=1)}
    for name, method in methods.items():
        made[f"pipeline {name}"] = partial(Stages, setting, method, lag=0)
    made["torch DDP"] = lambda: Ddp(setting)
    # No way to train one network, but what the machine's two cores can give at most.
    made["two processes with a network each"] = lambda: Autograd(setting, copies=2)
    for name, schedule in (("1F1B", Schedule1F1B), ("GPipe", ScheduleGPipe)):
        for m in MICRO_BATCHES:
            made[f"torch {name}, {m} micro-batches"] = partial(TorchPipeline, setting, schedule, m)
    return {name: _row(make()) for name, make in made.items() if name.startswith(ways)}


def _row(way: Contestant) -> dict[str, float | None]:
    """Milliseconds a batch, the smallest busy share of the ranks, kilobytes sent a batch by all."""
    found = pace(way, SECONDS, STEPS)
    return {"ms": 1e3 * found.seconds, "busy": found.waited, "kB": sum(found.sent) / 1e3}


def summary(rounds: list[Rows]) -> Rows:
    """Medians over the rounds of times, and of ratios within a round; of torch's schedules the best one."""
    found: Rows = {}
    for name in rounds[0]:
        columns: dict[str, list[float]] = defaultdict(list)
        for rows in rounds:
            ms: Any = {way: row["ms"] for way, row in rows.items()}
            speeds = {"speed-up": ms[BASE] / ms[name]}
            if OURS in rows:
                speeds["pipeline sg"] = ms[name] / ms[OURS]
            for key, value in (rows[name] | speeds).items():
                if value is not None:
                    columns[key].append(value)
        found[name] = {key: statistics.median(values) for key, values in columns.items()}
        found[name] |= {"slowest": min(columns["speed-up"]), "fastest": max(columns["speed-up"])}
    for family in ("torch 1F1B", "torch GPipe"):
        names = [name for name in found if name.startswith(family)]
        best = min(names, key=lambda name: found[name]["ms"] or 0, default="")
        found = {name: row for name, row in found.items() if name not in names or name == best}
    return found


def table(rows: Rows) -> str:
    """The rows as Markdown."""
    lines = [
        [
            name,
            f"{row['ms']:.2f}",
            f"{row['speed-up']:.2f} ({row['slowest']:.2f} to {row['fastest']:.2f})",
            f"{row['pipeline sg']:.2f}" if "pipeline sg" in row else "",
            f"{row['busy']:.2f}" if "busy" in row else "",
            f"{row['kB']:.0f}" if row.get("kB") else "",
        ]
        for name, row in rows.items()
    ]
    return markdown(["", "ms a batch", "speed-up (rounds)", "pipeline sg is faster by", "busy", "kB a batch"], lines)
