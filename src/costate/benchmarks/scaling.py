"""Predicts the throughput on many processes from what is measured on two, and checks the prediction there.

Measured on this machine: the network's passes at two batch sizes, its synthesizer, coarse copies and optimizer, and a
link between two processes. Predicted: a simulation of K = 1 ... 64 stages and of R × K grids for decoupled stages,
1F1B, GPipe and data parallel training, and of K stages that are answered by copies of all that is behind them.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from costate.benchmarks import build, markdown, write
from costate.benchmarks.contest import Setting, launch
from costate.benchmarks.costs import copied as copied_of
from costate.benchmarks.costs import measure, medians
from costate.benchmarks.pipeline import BASE, CASES, MICRO_BATCHES, alternately, methods_of, setting_of, summary
from costate.benchmarks.simulation import (
    Copied,
    Costs,
    Link,
    coarse_step,
    data_parallel_step,
    decoupled_step,
    gpipe,
    one_f_one_b,
    synchronous_step,
)
from costate.core.tasks import Classification
from costate.reports import benchmarks as figures
from costate.training.balance import partition, work

COARSE = "pipeline coarse"
CHECKED = "pipeline sg", COARSE, "torch DDP", "torch 1F1B", "torch GPipe"
COUNTS = 1, 2, 4, 8, 16, 32, 64
Plans = dict[int, tuple[list[int], list[int]]]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", choices=CASES, default="w64d64", help="network to measure (default w64d64)")
    parser.add_argument("--coarse", nargs="+", default=[], help="of coarse copies: method.factor=8 method.step=1")
    parser.add_argument("--rounds", type=int, default=3, help="launches of each way (default 3)")
    parser.add_argument("--latency", type=float, help="seconds of the link, instead of the measured ones")
    parser.add_argument("--bandwidth", type=float, help="bytes a second of the link, instead of the measured ones")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the results")


def run(options: argparse.Namespace) -> None:
    """Prints prediction against measurement at two processes, then the predictions; writes scaling.json."""
    # The simulation cuts the network evenly.
    setting, methods = setting_of(options.case, "balance=null"), methods_of(options.coarse)
    method = methods["coarse"]
    rounds, measured = [], []
    for _ in range(options.rounds):
        rounds.append(alternately(setting, methods, (BASE, *CHECKED)))
        measured.append(launch(2, 1, measure, setting, method))
    costs, link = medians(measured)
    copied, plans = copied_of(measured, method, costs, setting.batch), plans_of(setting, method)
    checks = check(costs, copied, plans, link, setting.batch, summary(rounds))
    told = f"{setting.name}\n\n{_check_table(checks)}\n"
    print(told)
    given = {"latency": options.latency, "bandwidth": options.bandwidth}
    if any(value is not None for value in given.values()):
        link = replace(link, **{name: value for name, value in given.items() if value is not None})
        costs = replace(costs, ring=None)
    found = predictions(costs, copied, plans, link, setting.batch)
    predicted = _table(found, setting.batch, link)
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
        return min(synchronous_step(costs, link, rows, 2, m, order) for m in MICRO_BATCHES)

    steps = (
        decoupled_step(costs, link, rows, 2),
        coarse_step(copied, link, *plans[2]),
        data_parallel_step(costs, link, rows, 2),
        best(one_f_one_b),
        best(gpipe),
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
        "decoupled": lambda K: decoupled_step(costs, link, rows, K),
        "1F1B": lambda K: min(synchronous_step(costs, link, rows, K, m) for m in micro),
        "GPipe": lambda K: min(synchronous_step(costs, link, rows, K, m, gpipe) for m in micro),
        "data parallel": lambda K: data_parallel_step(costs, link, rows, K),
    }
    lines = {"decoupled": {}, COARSE: {str(K): rows / coarse_step(copied, link, *plan) for K, plan in plans.items()}}
    lines |= {name: {str(K): rows / step(K) for K in COUNTS} for name, step in ways.items()}
    grid = {f"{R}x{K}": rows / decoupled_step(costs, link, rows, K, R) for R in COUNTS for K in COUNTS if R * K <= 64}
    return {"samples_per_second": lines, "grid": grid}


def _check_table(checks: list[dict[str, Any]]) -> str:
    numbers = [(row["name"], row["predicted"], row["measured"]) for row in checks]
    lines = [[name, f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs - 1:+.0%}"] for name, ours, theirs in numbers]
    return markdown(["two processes", "predicted, ms", "measured, ms", "error"], lines)


def _table(found: dict[str, Any], rows: int, link: Link) -> str:
    def line(name: str, speeds: dict[str, float], keys: Sequence[str]) -> list[str]:
        return [name, *(f"{speeds[key]:,.0f}" if key in speeds else "" for key in keys)]

    counts, speeds, grid = [str(K) for K in COUNTS], found["samples_per_second"], found["grid"]
    head = f"Samples a second, batch {rows}, link {1e6 * link.latency:.0f} µs and {link.bandwidth / 1e9:.2f} GB/s"
    ways = markdown(["K", *counts], [line(name, values, counts) for name, values in speeds.items()])
    serial = speeds[COARSE]["1"]
    coarse = "\n".join(f"{COARSE}, K = {K}: {value / serial:.1f} × serial" for K, value in speeds[COARSE].items())
    rests = [line(f"R = {R}", grid, [f"{R}x{K}" for K in counts]) for R in counts]
    return "\n\n".join([head, ways, coarse, markdown(["decoupled, R × K", *counts], rests)])
