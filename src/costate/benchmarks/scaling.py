"""Predicts the throughput on many processes from what is measured on two, and checks the prediction there.

Measured on this machine: the network's passes at two batch sizes, its synthesizer, its optimizer, and a link between
two processes. Predicted: a simulation of K = 1 ... 64 stages and of R × K grids for decoupled stages, 1F1B, GPipe and
data parallel training.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from hydra.utils import instantiate
from torch import Tensor
from torch.distributed.pipelining import ScheduleGPipe

from costate.benchmarks.contest import MICRO_BATCHES, Autograd, Ddp, Setting, TorchPipeline
from costate.benchmarks.pipeline import BASE, CASES, alternately, launch, setting_of, summary
from costate.benchmarks.simulation import (
    Costs,
    Line,
    Link,
    data_parallel_step,
    decoupled_step,
    gpipe,
    one_f_one_b,
    synchronous_step,
)
from costate.core.stage import Stage
from costate.core.tasks import Classification
from costate.reports import contest
from costate.training.module import stages

CHECKED = "pipeline sg", "torch DDP", "torch 1F1B", "torch GPipe"
COUNTS = 1, 2, 4, 8, 16, 32, 64
WARMUP, REPEATS, MICRO = 3, 30, 4


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
    setting, methods = setting_of(options.case, "balance=null")
    rounds, measured = [], []
    for _ in range(options.rounds):
        rounds.append(alternately(setting, methods, (BASE, *CHECKED)))
        measured.append(launch(2, 1, _measure, setting))
    costs, link = _medians(measured)
    checks = check(costs, link, setting.batch, summary(rounds))
    print(f"{setting.name}\n\n{_check_table(checks)}\n")
    given = {"latency": options.latency, "bandwidth": options.bandwidth}
    if any(value is not None for value in given.values()):
        link = replace(link, **{name: value for name, value in given.items() if value is not None})
        costs = replace(costs, ring=None)
    found = predictions(costs, link, setting.batch)
    print(_table(found, setting.batch, link))
    result: dict[str, Any] = {
        "name": setting.name,
        "batch": setting.batch,
        "costs": asdict(costs),
        "link": asdict(link),
    }
    result |= {"check": checks, **found}
    (options.out / "scaling.json").write_text(json.dumps(result, indent=2) + "\n")
    contest.throughput(result).savefig(options.out / "scaling.png", dpi=150)
    contest.check(result).savefig(options.out / "scaling_check.png", dpi=150)
    print(f"\nWritten: scaling.json, scaling.png and scaling_check.png in {options.out}/")


def _measure(setting: Setting) -> dict[str, Any]:
    """Seconds of each part on one thread with both cores at work, as in a pipeline, and the link's for two sizes."""
    parts: dict[str, Any] = {}
    for rows in (setting.batch, setting.batch // MICRO):
        parts[str(rows)] = _passes(setting, rows)
    sizes = 8_000, 800_000
    parts["beside"] = _beside(setting, parts[str(setting.batch // MICRO)])
    parts["link"] = {str(size): _ping_pong(size) for size in sizes}
    parts["ring"] = {str(size): _all_reduce(size) for size in sizes}
    return parts


def _passes(setting: Setting, rows: int) -> dict[str, float]:
    rule = instantiate(setting.method, _convert_="all")
    front, back = stages(setting.cut(2), setting.shape, Classification(setting.classes), rule)
    adam = instantiate(setting.optimizer, _convert_="all")(
        [{"params": [p for stage in (front, back) for p in stage.block.parameters()]}]
    )
    batches = [(x[:rows], y[:rows]) for x, y in setting.batches()]
    x, y = batches[0]
    h = front.send(0, x, y, first=True)
    g = torch.randn_like(h)
    front.update(0, None)
    synthesizer = front.interface
    times: dict[str, list[float]] = {name: [] for name in ("forward", "backward", "predict", "learn", "optimizer")}

    def clocked(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        times[name].append(time.perf_counter() - start)
        return result

    for n in range(WARMUP + REPEATS):
        # Batches that no cache holds from the last time, as in training.
        x, y = batches[n % len(batches)]
        adam.zero_grad()
        predicted = clocked("predict", partial(synthesizer.gradient, h, y, None, 0))
        states = clocked("forward", partial(_forward, front, back, x))
        h_out, output = states
        clocked("backward", partial(_backward, front, back, y, h_out, output, predicted))
        clocked("learn", partial(_learn, synthesizer, h, y, g))
        clocked("optimizer", adam.step)
    numbers = {name: _mean(values) for name, values in times.items()}
    weights = sum(p.numel() * p.element_size() for stage in (front, back) for p in stage.block.parameters())
    return numbers | {"weights": weights, "state": h[0].numel() * h.element_size()}


def _beside(setting: Setting, passes: dict[str, float]) -> dict[str, float]:
    """E and D, on one process: what torch's own ways take for a step there, less the passes and the optimizer."""
    alone, _ = dist.new_subgroups(1)
    batches = setting.batches()
    ways = Autograd(setting), Ddp(setting, alone), TorchPipeline(setting, ScheduleGPipe, MICRO, alone)
    times: list[list[float]] = [[] for _ in ways]
    for n in range(WARMUP + REPEATS):
        for way, seconds in zip(ways, times, strict=True):
            start = time.perf_counter()
            way.step(n, *batches[n % len(batches)], more=True)
            seconds.append(time.perf_counter() - start)
    autograd, ddp, pipeline = map(_mean, times)
    known = MICRO * (passes["forward"] + passes["backward"]) + passes["optimizer"]
    return {"engine": max(0.0, pipeline - known) / MICRO, "reducer": max(0.0, ddp - autograd)}


def _mean(seconds: list[float]) -> float:
    """A step's time is the sum of its parts' means; of what now and then takes longer the median would know nothing."""
    return statistics.fmean(seconds[WARMUP:])


def _forward(front: Stage, back: Stage, x: Tensor) -> tuple[Tensor, Tensor]:
    h = front.block(x)
    return h, back.block(h.detach().requires_grad_())


def _backward(front: Stage, back: Stage, y: Tensor, h: Tensor, output: Tensor, predicted: Tensor) -> None:
    output.backward(back.interface.gradient(output.detach(), y, None, 0))
    h.backward(predicted)


def _learn(synthesizer: Any, h: Tensor, y: Tensor, g: Tensor) -> None:
    synthesizer.fit(h, y, g).backward()


def _ping_pong(size: int) -> float:
    """Seconds of one way."""
    message, other = torch.zeros(size // 4), 1 - dist.get_rank()
    times = []
    for _ in range(WARMUP + REPEATS):
        dist.barrier()
        start = time.perf_counter()
        for turn in (0, 1):
            (dist.send if dist.get_rank() == turn else dist.recv)(message, other)
        times.append((time.perf_counter() - start) / 2)
    return _mean(times)


def _all_reduce(size: int) -> float:
    """Seconds of one over both ranks."""
    message, times = torch.zeros(size // 4), []
    for _ in range(WARMUP + REPEATS):
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(message)
        times.append(time.perf_counter() - start)
    return _mean(times)


def _medians(measured: list[dict[str, Any]]) -> tuple[Costs, Link]:
    """The lines through two sizes of what was measured."""

    def line(pick: Callable[[dict[str, Any], str], float], sizes: list[str]) -> Line:
        small, large = sorted(sizes, key=int)
        a, b = (statistics.median(pick(found, size) for found in measured) for size in (small, large))
        slope = max(0.0, (b - a) / (int(large) - int(small)))
        return Line(max(0.0, b - slope * int(large)), slope)

    sizes = [name for name in measured[0] if name not in ("beside", "link", "ring")]

    def part(name: str) -> Line:
        return line(lambda found, size: found[size][name], sizes)

    one = measured[0][sizes[0]]
    optimizer = statistics.median(found[size]["optimizer"] for found in measured for size in sizes)

    def way(name: str, messages: int) -> Link:
        found = line(lambda one, size: one[name][size], list(measured[0][name]))
        return Link(found.c0 / messages, 1 / found.c1 if found.c1 else float("inf"))

    # An all-reduce of two ranks is two messages of half the size.
    link, ring = way("link", 1), way("ring", 2)
    passes = part("forward"), part("backward"), part("predict"), part("learn")
    engine, reducer = (statistics.median(found["beside"][name] for found in measured) for name in ("engine", "reducer"))
    return Costs(*passes, optimizer, one["weights"], one["state"], engine, reducer, ring), link


def check(costs: Costs, link: Link, rows: int, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Milliseconds a batch at two processes, predicted and measured."""

    def best(order: Any) -> float:
        return min(synchronous_step(costs, link, rows, 2, m, order) for m in MICRO_BATCHES)

    steps = (
        decoupled_step(costs, link, rows, 2),
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


def predictions(costs: Costs, link: Link, rows: int) -> dict[str, Any]:
    """Samples a second for K stages or replicas, and for grids of decoupled stages."""
    # Of micro-batches, torch's own rule of thumb: four a stage, and no fewer than a row each.
    ways: dict[str, Callable[[int], float]] = {
        "decoupled": lambda K: decoupled_step(costs, link, rows, K),
        "1F1B": lambda K: min(synchronous_step(costs, link, rows, K, m) for m in _micro_batches(rows)),
        "GPipe": lambda K: min(synchronous_step(costs, link, rows, K, m, gpipe) for m in _micro_batches(rows)),
        "data parallel": lambda K: data_parallel_step(costs, link, rows, K),
    }
    lines = {name: {str(K): rows / step(K) for K in COUNTS} for name, step in ways.items()}
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
        lines.append(f"| {name} | " + " | ".join(f"{values[str(K)]:,.0f}" for K in COUNTS) + " |")
    lines += ["", "| decoupled, R × K | " + " | ".join(map(str, COUNTS)) + " |", "| --- |" + " ---: |" * len(COUNTS)]
    for R in COUNTS:
        cells = [found["grid"].get(f"{R}x{K}") for K in COUNTS]
        lines.append(f"| R = {R} | " + " | ".join("" if c is None else f"{c:,.0f}" for c in cells) + " |")
    return "\n".join(lines)
