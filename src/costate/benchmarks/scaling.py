"""Predicts the throughput on many processes from what is measured on two, and checks the prediction there.

Measured on this machine: the network's passes at two batch sizes, its synthesizer, coarse copies and optimizer, and a
link between two processes. Predicted: a simulation of K = 1 ... 64 stages and of R × K grids for decoupled stages,
1F1B, GPipe and data parallel training, and of K stages that are answered by copies of all that is behind them.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from costate.benchmarks.contest import Setting
from costate.benchmarks.costs import copied as copied_of
from costate.benchmarks.costs import measure, medians
from costate.benchmarks.pipeline import (
    BASE,
    CASES,
    METHODS,
    MICRO_BATCHES,
    alternately,
    launch,
    nodes_of,
    setting_of,
    summary,
)
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
    parser.add_argument("--rounds", type=int, default=3, help="launches of each way (default 3)")
    parser.add_argument("--latency", type=float, help="seconds of the link, instead of the measured ones")
    parser.add_argument("--bandwidth", type=float, help="bytes a second of the link, instead of the measured ones")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the results")


def run(options: argparse.Namespace) -> None:
    """Prints prediction against measurement at two processes, then the predictions; writes scaling.json."""
    options.out.mkdir(parents=True, exist_ok=True)
    # The simulation cuts the network evenly.
    setting, method = setting_of(options.case, "balance=null"), nodes_of(METHODS)["coarse"]
    rounds, measured = [], []
    for _ in range(options.rounds):
        rounds.append(alternately(setting, (BASE, *CHECKED)))
        measured.append(launch(2, 1, measure, setting, method))
    costs, link = medians(measured)
    copied, plans = copied_of(measured, method, costs, setting.batch), plans_of(setting, method)
    checks = check(costs, copied, plans, link, setting.batch, summary(rounds))
    print(f"{setting.name}\n\n{_check_table(checks)}\n")
    given = {"latency": options.latency, "bandwidth": options.bandwidth}
    if any(value is not None for value in given.values()):
        link = replace(link, **{name: value for name, value in given.items() if value is not None})
        costs = replace(costs, ring=None)
    found = predictions(costs, copied, plans, link, setting.batch)
    print(_table(found, setting.batch, link))
    parts = {"costs": asdict(costs), "copied": asdict(copied), "link": asdict(link), "check": checks}
    result: dict[str, Any] = {"name": setting.name, "batch": setting.batch, **parts, **found}
    (options.out / "scaling.json").write_text(json.dumps(result, indent=2) + "\n")
    figures.throughput(result).savefig(options.out / "scaling.png", dpi=150)
    figures.check(result).savefig(options.out / "scaling_check.png", dpi=150)
    print(f"\nWritten: scaling.json, scaling.png and scaling_check.png in {options.out}/")


def plans_of(setting: Setting, method: dict[str, Any]) -> Plans:
    """By numbers of stages: the layers of each, of equal work with its copies, and those of each one's copy."""
    rule, network = instantiate(method, _convert_="all"), setting.network()
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
    # Of micro-batches, torch's own rule of thumb: four a stage, and no fewer than a row each.
    ways: dict[str, Callable[[int], float]] = {
        "decoupled": lambda K: decoupled_step(costs, link, rows, K),
        "1F1B": lambda K: min(synchronous_step(costs, link, rows, K, m) for m in _micro_batches(rows)),
        "GPipe": lambda K: min(synchronous_step(costs, link, rows, K, m, gpipe) for m in _micro_batches(rows)),
        "data parallel": lambda K: data_parallel_step(costs, link, rows, K),
    }
    lines = {"decoupled": {}, COARSE: {str(K): rows / coarse_step(copied, link, *plan) for K, plan in plans.items()}}
    lines |= {name: {str(K): rows / step(K) for K in COUNTS} for name, step in ways.items()}
    grid = {f"{R}x{K}": rows / decoupled_step(costs, link, rows, K, R) for R in COUNTS for K in COUNTS if R * K <= 64}
    return {"samples_per_second": lines, "grid": grid}


def _micro_batches(rows: int) -> list[int]:
    return [m for m in (1, 2, 4, 8, 16, 32, 64) if m <= rows]


def _check_table(checks: list[dict[str, Any]]) -> str:
    lines = ["| two processes | predicted, ms | measured, ms | error |", "| --- | ---: | ---: | ---: |"]
    for row in checks:
        error = row["predicted"] / row["measured"] - 1
        lines.append(f"| {row['name']} | {row['predicted']:.2f} | {row['measured']:.2f} | {error:+.0%} |")
    return "\n".join(lines)


def _table(found: dict[str, Any], rows: int, link: Link) -> str:
    head = f"Samples a second, batch {rows}, link {1e6 * link.latency:.0f} µs and {link.bandwidth / 1e9:.2f} GB/s\n"
    lines = [head, "| K | " + " | ".join(map(str, COUNTS)) + " |", "| --- |" + " ---: |" * len(COUNTS)]
    for name, values in found["samples_per_second"].items():
        cells = [f"{values[str(K)]:,.0f}" if str(K) in values else "" for K in COUNTS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    coarse = found["samples_per_second"][COARSE]
    lines += ["", *(f"{COARSE}, K = {K}: {value / coarse['1']:.1f} × serial" for K, value in coarse.items())]
    lines += ["", "| decoupled, R × K | " + " | ".join(map(str, COUNTS)) + " |", "| --- |" + " ---: |" * len(COUNTS)]
    for R in COUNTS:
        cells = [found["grid"].get(f"{R}x{K}") for K in COUNTS]
        lines.append(f"| R = {R} | " + " | ".join("" if c is None else f"{c:,.0f}" for c in cells) + " |")
    return "\n".join(lines)
