"""How fast ways to train one network are: measured on two cores, and predicted on many processes."""

import argparse
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe

from costate.benchmarks import build, markdown, simulation, write
from costate.benchmarks.contest import REFRESH, Autograd, Contestant, Ddp, Setting, Stages, TorchPipeline, launch, pace
from costate.benchmarks.costs import copied as copied_of
from costate.benchmarks.costs import fitted, measure
from costate.benchmarks.simulation import Copied, Costs, Link
from costate.config.composing import composed
from costate.core.tasks import Classification
from costate.reports import benchmarks as figures
from costate.training.balance import partition, work

SECONDS, STEPS, MICRO_BATCHES = 2.5, 10, (2, 4, 8)
METHODS = {
    "backprop": ["method=backprop"],
    "coarse": ["method=coarse", f"method.refresh={REFRESH}"],
    "delayed": ["method=delayed"],
    "delayed by 2": ["method=delayed", "method.delay=2"],
    "replay": ["method=replay"],
    "petra": ["method=petra"],
}
SCHEDULES = {"torch 1F1B": Schedule1F1B, "torch GPipe": ScheduleGPipe}
BASE, OURS, COARSE = "serial backprop, 1 thread", "pipeline sg", "pipeline coarse"
CHECKED = OURS, COARSE, "torch DDP", "torch 1F1B", "torch GPipe"
COUNTS = 1, 2, 4, 8, 16, 32, 64
Rows = dict[str, dict[str, float | None]]
Nodes = dict[str, dict[str, Any]]
Plans = dict[int, tuple[list[int], list[int]]]

PLAIN, CONV, DIGITS = "verlet, width {}", "convolutional verlet, {} channels", ((1, 28, 28), 10)
LOWRANK, POOLED = "method/synthesizer=lowrank", "arch/form=conv method/synthesizer=pooled"
CASES: dict[str, tuple[str, int, int, int, str, tuple[tuple[int, ...], int], str]] = {
    # The first stage has the opening and the synthesizer.
    "w64d64": (PLAIN, 64, 64, 256, "", DIGITS, "balance=[31,33]"),
    "w4d512": (PLAIN, 4, 512, 256, "", ((2,), 2), ""),
    "w784d32": (PLAIN, 784, 32, 512, ", low-rank synthesizer", DIGITS, LOWRANK),
    "w256d16": (PLAIN, 256, 16, 256, ", low-rank synthesizer", DIGITS, LOWRANK),
    "conv16d16": (CONV, 16, 16, 128, ", pooled synthesizer", DIGITS, POOLED),
}
"""Network, width, depth and batch; what else is said of it; shape of a sample and classes; other settings."""


def of_pipeline(parser: argparse.ArgumentParser) -> None:
    """Of `pipeline`."""
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="networks to measure")
    parser.add_argument("--ways", nargs="+", default=[""], help="beginnings of the names of the ways to measure")
    parser.add_argument("--settings", nargs="+", default=[], help="of the networks: balance=[30,34]")
    parser.add_argument("--coarse", nargs="+", default=[], help="of coarse copies: method.factor=8 method.step=1")
    parser.add_argument("--rounds", type=int, default=5, help="launches of each way (default 5)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the results")


def pipeline(options: argparse.Namespace) -> None:
    """One stage a process against the other ways to use two cores, measured alternately, in fresh processes each round.

    A row's time is that of a batch in a run of some seconds, median over the rounds; ratios are formed within a round
    and then the median taken. Every way trains the same network on the same batches with the same fused optimizer;
    torch's own schedules appear at their best number of micro-batches. Prints a table for each network, and writes
    pipeline.json, pipeline.md and pipeline.png.
    """
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
    net, width, depth, batch, more, (shape, classes), words = CASES[case]
    name = f"{net.format(width)}, depth {depth}, batch {batch}{more}"
    sizes = f"arch.width={width}", f"arch.depth={depth}"
    cfg = composed("arch=verlet", "method=sg", *sizes, *words.split(), *settings)
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
    rows: Rows = launch(1, 1, _alone, setting, "1 thread", ways)
    rows |= launch(1, os.cpu_count() or 1, _alone, setting, "all threads", ways)
    return rows | launch(2, 1, _together, setting, methods, ways)


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
    for name, schedule in SCHEDULES.items():
        for m in MICRO_BATCHES:
            made[f"{name}, {m} micro-batches"] = partial(TorchPipeline, setting, schedule, m)
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
    for family in SCHEDULES:
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


def of_scaling(parser: argparse.ArgumentParser) -> None:
    """Of `scaling`."""
    parser.add_argument("--case", choices=CASES, default="w64d64", help="network to measure (default w64d64)")
    parser.add_argument("--coarse", nargs="+", default=[], help="of coarse copies: method.factor=8 method.step=1")
    parser.add_argument("--rounds", type=int, default=3, help="launches of each way (default 3)")
    parser.add_argument("--latency", type=float, help="seconds of the link, instead of the measured ones")
    parser.add_argument("--bandwidth", type=float, help="bytes a second of the link, instead of the measured ones")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the results")


def scaling(options: argparse.Namespace) -> None:
    """Predicts the throughput on many processes from what is measured on two, and checks the prediction there.

    Measured on this machine: the network's passes at two batch sizes, its synthesizer, coarse copies and optimizer, and
    a link between two processes. Predicted: a simulation of K = 1 ... 64 stages and of R × K grids for decoupled
    stages, 1F1B, GPipe and data parallel training, and of K stages that are answered by copies of all that is behind
    them. Prints prediction against measurement at two processes, then the predictions; writes scaling.json.
    """
    # The simulation cuts the network evenly.
    setting, methods = setting_of(options.case, "balance=null"), methods_of(options.coarse)
    method = methods["coarse"]
    rounds, measured = [], []
    for _ in range(options.rounds):
        rounds.append(alternately(setting, methods, (BASE, *CHECKED)))
        measured.append(launch(2, 1, measure, setting, method))
    costs, link = fitted(measured)
    copied, plans = copied_of(measured, method, costs, setting.batch), plans_of(setting, method)
    checks = check(costs, copied, plans, link, setting.batch, summary(rounds))
    told = f"{setting.name}\n\n{_check_table(checks)}\n"
    print(told)
    given = {name: value for name in asdict(link) if (value := getattr(options, name)) is not None}
    if given:
        link, costs = replace(link, **given), replace(costs, ring=None)
    found = predictions(costs, copied, plans, link, setting.batch)
    predicted = _predicted(found, setting.batch, link)
    print(predicted)
    parts = {"costs": asdict(costs), "copied": asdict(copied), "link": asdict(link), "check": checks}
    result: dict[str, Any] = {"name": setting.name, "batch": setting.batch, **parts, **found}
    drawn = {"whole": figures.throughput(result), "check": figures.check(result)}
    write(options.out, "scaling", result, f"{told}\n{predicted}", **drawn)


def plans_of(setting: Setting, method: dict[str, Any]) -> Plans:
    """By numbers of stages: the layers of each, of equal work with its copies, and those of each one's copy."""
    rule, network = build(method), setting.network()
    works = work(network.block, rule, setting.shape, Classification(setting.classes))
    plans = {}
    for K in COUNTS:
        if network.layers >= K:
            layers = partition(*works, K)
            plans[K] = layers, [block.coarser(rule.rule) for block in network.cut(K, layers)]
    return plans


def check(
    costs: Costs, copied: Copied, plans: Plans, link: Link, rows: int, measured: dict[str, Any]
) -> list[dict[str, Any]]:
    """Milliseconds a batch at two processes, predicted and measured."""

    def best(order: Any) -> float:
        return min(simulation.synchronous_step(costs, link, rows, 2, m, order) for m in MICRO_BATCHES)

    steps = (
        simulation.decoupled_step(costs, link, rows, 2),
        simulation.coarse_step(copied, link, *plans[2]),
        simulation.data_parallel_step(costs, link, rows, 2),
        best(simulation.one_f_one_b),
        best(simulation.gpipe),
    )
    predicted = dict(zip(CHECKED, steps, strict=True))
    return [
        {"name": name, "predicted": 1e3 * predicted[start], "measured": row["ms"]}
        for name, row in measured.items()
        for start in predicted
        if name.startswith(start)
    ]


def predictions(costs: Costs, copied: Copied, plans: Plans, link: Link, rows: int) -> dict[str, Any]:
    """Samples a second for K stages or replicas, and for grids of decoupled stages."""
    micro = [m for m in COUNTS if m <= rows]
    ways: dict[str, Callable[[int], float]] = {
        "decoupled": lambda K: simulation.decoupled_step(costs, link, rows, K),
        COARSE: lambda K: simulation.coarse_step(copied, link, *plans[K]),
        "1F1B": lambda K: min(simulation.synchronous_step(costs, link, rows, K, m) for m in micro),
        "GPipe": lambda K: min(simulation.synchronous_step(costs, link, rows, K, m, simulation.gpipe) for m in micro),
        "data parallel": lambda K: simulation.data_parallel_step(costs, link, rows, K),
    }
    lines = {}
    for name, step in ways.items():
        counts = plans if name == COARSE else COUNTS
        lines[name] = {str(K): rows / step(K) for K in counts}
    return {"samples_per_second": lines, "grid": grid(costs, link, rows, COUNTS)}


def grid(costs: Costs, link: Link, rows: int, counts: Sequence[int]) -> dict[str, float]:
    """Samples a second of R replicas of K decoupled stages, up to 64 processes."""
    pairs = [(R, K) for R in counts for K in counts if R * K <= 64]
    return {f"{R}x{K}": rows / simulation.decoupled_step(costs, link, rows, K, R) for R, K in pairs}


def _check_table(checks: list[dict[str, Any]]) -> str:
    numbers = [(row["name"], row["predicted"], row["measured"]) for row in checks]
    lines = [[name, f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs - 1:+.0%}"] for name, ours, theirs in numbers]
    return markdown(["two processes", "predicted, ms", "measured, ms", "error"], lines)


def _predicted(found: dict[str, Any], rows: int, link: Link) -> str:
    def line(name: str, speeds: dict[str, float], keys: Sequence[str]) -> list[str]:
        return [name, *(f"{speeds[key]:,.0f}" if key in speeds else "" for key in keys)]

    counts, speeds, grid = [str(K) for K in COUNTS], found["samples_per_second"], found["grid"]
    head = f"Samples a second, batch {rows}, link {1e6 * link.latency:.0f} µs and {link.bandwidth / 1e9:.2f} GB/s"
    ways = markdown(["K", *counts], [line(name, values, counts) for name, values in speeds.items()])
    serial = speeds[COARSE]["1"]
    coarse = "\n".join(f"{COARSE}, K = {K}: {value / serial:.1f} × serial" for K, value in speeds[COARSE].items())
    rests = [line(f"R = {R}", grid, [f"{R}x{K}" for K in counts]) for R in counts]
    return "\n\n".join([head, ways, coarse, markdown(["decoupled, R × K", *counts], rests)])
