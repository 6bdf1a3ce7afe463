"""The same network, batch and two ranks over links that are slow or far, and what a simulation says of many hosts.

Each rank is a host of its own (`costate.benchmarks.hosts`). Rates are the kernel's (`tc tbf`); round trips are made by
a switch of ours that holds each packet for half of one. Measured: samples a second, CPU seconds a second of the busier
rank, bytes that leave both hosts for a batch. Predicted from each way's own speed without a limit, its bytes, and the
link's numbers.
"""

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe

from costate.benchmarks.contest import Autograd, Contestant, Ddp, PipelineStages, Setting, TorchPipeline
from costate.benchmarks.hosts import Hosts, lacking
from costate.benchmarks.network_model import COUNTS, MICRO, grid, many, predicted
from costate.benchmarks.pipeline import launch, setting_of
from costate.config.composing import composed
from costate.reports import network as figures

METHODS = {
    "pipeline backprop": ["method=backprop"],
    "pipeline sg": ["method=sg", "method/synthesizer=linear"],
    "pipeline coarse": ["method=coarse", "method.refresh=32"],
    "pipeline delayed": ["method=delayed"],
    "full unlock": ["method=coarse", "method.refresh=32", "method.inputs=coarse"],
}
LEARNS = "pipeline sg"
"""Its interfaces learn, one batch late."""
FAST, RATES, TRIPS = "no limit", (10_000.0, 1_000.0, 100.0, 10.0), (0.1, 1.0, 10.0, 100.0)
SERIAL = "serial backprop"
WARMUP, LEAST, ROUND = 2, 3, 32
"""Batches: before anything is timed, a row at least, and of ways that send copies, which do so once in so many."""


class Line(NamedTuple):
    """A link: Mb/s, and milliseconds of a round trip that the switch adds."""

    rate: float | None = None
    trip: float = 0.0

    @property
    def name(self) -> str:
        if self.trip:
            return f"{self.trip:g} ms"
        return FAST if self.rate is None else f"{self.rate:g} Mb/s"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", default="w256d16", help="network to measure (default w256d16)")
    parser.add_argument("--rates", nargs="*", type=float, default=list(RATES), help="Mb/s")
    parser.add_argument("--trips", nargs="*", type=float, default=list(TRIPS), help="milliseconds there and back")
    parser.add_argument("--rounds", type=int, default=3, help="launches of each link (default 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each row (default 2)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the results")


def run(options: argparse.Namespace) -> None:
    """Prints a table, and writes network.json, network.md, network.png and network_many.png.

    Raises:
        ValueError: there can be no hosts on this machine.
    """
    if reason := lacking():
        raise ValueError(f"The network benchmark makes hosts of this machine: {reason}.")
    options.out.mkdir(parents=True, exist_ok=True)
    setting, _ = setting_of(options.case, "balance=null")
    lines = [Line(), *(Line(rate=rate) for rate in options.rates), *(Line(trip=trip) for trip in options.trips)]
    measured: dict[str, Any] = {}
    for line in lines:
        rounds = [over(line, setting, options.seconds) for _ in range(options.rounds)]
        measured[line.name] = _medians(rounds)
        print(
            f"{line.name}: " + ", ".join(f"{way} {row['per_second']:.0f}" for way, row in measured[line.name].items())
        )
    result = {"name": setting.name, "batch": setting.batch, "measured": measured}
    result["links"] = {line.name: foretold(line, measured[FAST], setting.batch) for line in lines}
    (options.out / "network.json").write_text(json.dumps(result, indent=2) + "\n")
    (options.out / "network.md").write_text(table(result))
    figures.links(result).savefig(options.out / "network.png", dpi=150)
    figures.many(result, COUNTS).savefig(options.out / "network_many.png", dpi=150)
    print(f"\n{table(result)}\nWritten: network.json, .md, .png and network_many.png in {options.out}/")


def foretold(line: Line, free: dict[str, dict[str, float]], rows: int) -> dict[str, Any]:
    """What a simulation says of a link, from what was measured without a limit."""
    link = {"rate": line.rate, "trip": line.trip}
    says = {"predicted": predicted(free, rows, link), "many": many(free, rows, link), "grid": grid(free, rows, link)}
    return link | says


def over(line: Line, setting: Setting, seconds: float) -> dict[str, dict[str, float]]:
    """Every way over one link, in fresh processes."""
    methods: Any = {
        name: OmegaConf.to_container(composed(*words).method, resolve=True) for name, words in METHODS.items()
    }
    with Hosts(2, line.rate, line.trip / 2e3) as hosts:
        networks = [hosts.network(name) for name in hosts.names]
        rows = launch(1, 1, _alone, setting, seconds) if line == Line() else {}
        return rows | launch(2, 1, _together, setting, methods, seconds, networks=networks)


def _alone(setting: Setting, seconds: float) -> dict[str, Any]:
    return {SERIAL: _time(Autograd(setting), seconds, 1)}


def _together(setting: Setting, methods: dict[str, dict[str, Any]], seconds: float) -> dict[str, Any]:
    ways: dict[str, Any] = {"torch DDP": Ddp}
    for name, schedule in (("torch 1F1B", Schedule1F1B), ("torch GPipe", ScheduleGPipe)):
        ways[name] = partial(TorchPipeline, schedule=schedule, micro_batches=MICRO)
    for name, method in methods.items():
        ways[name] = partial(PipelineStages, method=method, lag=int(name == LEARNS))
    copying = {name for name, method in methods.items() if "refresh" in method}
    return {name: _time(make(setting), seconds, ROUND if name in copying else 1) for name, make in ways.items()}


def _time(contestant: Contestant, seconds: float, lot: int) -> dict[str, float]:
    """What a row has; `lot`: of so many batches that each sends as much as another."""
    batches = contestant.setting.batches()
    # Behind the first copies, which come more often.
    start = 32 * ROUND if lot > 1 else 0

    def train(first: int, last: int, more: bool = True) -> float:
        since = time.perf_counter()
        for n in range(first, last):
            contestant.step(n, *batches[n % len(batches)], more=more or n < last - 1)
        return time.perf_counter() - since

    train(start, start + WARMUP)
    dist.barrier()
    step = torch.tensor(train(start + WARMUP, start + 2 * WARMUP) / WARMUP)
    dist.broadcast(step, 0)
    count = max(LEAST, lot * -(-round(seconds / step.item()) // lot))
    begin, end = start + 2 * WARMUP, start + 2 * WARMUP + count
    before, cpu = _left(), time.process_time()
    took = train(begin, end)
    own = took, (time.process_time() - cpu) / took, (_left() - before) / count
    train(end, end + 1, more=False)
    ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, own)
    times, busy, left = zip(*ranks, strict=True)
    rate = count * contestant.setting.batch / max(times)
    # One process sends nothing, whatever else leaves the machine.
    up, down = (left[0], left[1]) if len(left) > 1 else (0.0, 0.0)
    return {"per_second": rate, "busy": max(busy), "up": up, "down": down}


def _left() -> int:
    """Bytes that have left this host."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == Hosts.interface:
            return int(numbers.split()[8])
    return 0


def _medians(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        way: {key: statistics.median(found[way][key] for found in rounds) for key in row}
        for way, row in rounds[0].items()
    }


def table(result: dict[str, Any]) -> str:
    """As Markdown: samples a second, in brackets the prediction; busy share and bytes without a limit."""
    names = list(result["measured"])
    lines = ["| | " + " | ".join(names) + " | busy | kB a batch |", "| --- |" + " ---: |" * (len(names) + 2)]
    for way, row in result["measured"][FAST].items():
        cells = []
        for name in names:
            found = result["measured"][name].get(way)
            guess = result["links"][name]["predicted"][way]
            cells.append(f"{found['per_second']:,.0f} ({guess:,.0f})" if found else "")
        cells += [f"{row['busy']:.2f}", f"{(row['up'] + row['down']) / 1e3:,.0f}"]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return f"{result['name']}: samples a second, measured (predicted)\n\n" + "\n".join(lines) + "\n"
