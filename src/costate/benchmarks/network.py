"""The same network, batch and two ranks over links that are slow or far, and what a simulation says of many hosts.

Each rank is a host of its own (`costate.benchmarks.hosts`). Rates are the kernel's (`tc tbf`); round trips are made by
a switch of ours that holds each packet for half of one. Measured: samples a second, CPU seconds a second of the busier
rank, bytes that leave both hosts for a batch. Predicted from each way's own speed without a limit, its bytes, and the
link's numbers:

    T0     seconds a batch of two stages, or replicas, without a limit, as measured; serial for one process
    D, U   bytes a batch that leave the host of the first stage and that of the second, as measured; of copies, which
           are made every 215 batches, a 215th
    K, R   stages and replicas; the work of a stage is 2 T0 / K
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe

from costate.benchmarks import markdown, write
from costate.benchmarks.contest import REFRESH, Autograd, Contestant, Ddp, Setting, Stages, TorchPipeline, launch, pace
from costate.benchmarks.hosts import Hosts, lacking
from costate.benchmarks.pipeline import Nodes, nodes_of, setting_of
from costate.benchmarks.simulation import Costs, Link, decoupled_step, gpipe, one_f_one_b, synchronous_step
from costate.benchmarks.simulation import Line as Seconds
from costate.reports import benchmarks as figures

METHODS = {
    "pipeline backprop": ["method=backprop"],
    "pipeline sg": ["method=sg", "method/synthesizer=linear"],
    "pipeline coarse": ["method=coarse", f"method.refresh={REFRESH}"],
    "pipeline delayed": ["method=delayed"],
    "full unlock": ["method=coarse", f"method.refresh={REFRESH}", "method.inputs=coarse"],
}
LEARNS = "pipeline sg"
"""Its interfaces learn, one batch late."""
FAST, RATES, TRIPS = "no limit", (10_000.0, 1_000.0, 100.0, 10.0), (0.1, 1.0, 10.0, 100.0)
SERIAL = "serial backprop"
LEAST, MICRO = 3, 4
"""Batches of a row at least; micro-batches of torch's schedules."""
COUNTS = 2, 4, 8, 16, 32, 64
ORDERS = {"torch 1F1B": (one_f_one_b, MICRO), "torch GPipe": (gpipe, MICRO), "pipeline backprop": (gpipe, 1)}
WAITING = "pipeline sg", "pipeline delayed"
"""Of the decoupled ways those in which something waits for what comes up, a batch late."""
Free = dict[str, dict[str, float]]


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
    setting = setting_of(options.case, "balance=null")
    lines = [Line(), *(Line(rate=rate) for rate in options.rates), *(Line(trip=trip) for trip in options.trips)]
    measured: dict[str, Any] = {}
    for line in lines:
        measured[line.name] = _medians([over(line, setting, options.seconds) for _ in range(options.rounds)])
        told = ", ".join(f"{way} {row['per_second']:.0f}" for way, row in measured[line.name].items())
        print(f"{line.name}: {told}")
    result = {"name": setting.name, "batch": setting.batch, "measured": measured}
    result["links"] = {line.name: foretold(line, measured[FAST], setting.batch) for line in lines}
    print(f"\n{table(result)}")
    drawn = {"whole": figures.links(result), "many": figures.many(result, COUNTS)}
    write(options.out, "network", result, table(result), **drawn)


def over(line: Line, setting: Setting, seconds: float) -> Free:
    """Every way over one link, in fresh processes."""
    with Hosts(2, line.rate, line.trip / 2e3) as hosts:
        networks = [hosts.network(name) for name in hosts.names]
        rows = launch(1, 1, _alone, setting, seconds) if line == Line() else {}
        return rows | launch(2, 1, _together, setting, nodes_of(METHODS), seconds, networks=networks)


def _alone(setting: Setting, seconds: float) -> Free:
    return {SERIAL: _row(Autograd(setting), seconds)}


def _together(setting: Setting, methods: Nodes, seconds: float) -> Free:
    ways: dict[str, Callable[[], Contestant]] = {"torch DDP": lambda: Ddp(setting)}
    for name, schedule in (("torch 1F1B", Schedule1F1B), ("torch GPipe", ScheduleGPipe)):
        ways[name] = partial(TorchPipeline, setting, schedule, MICRO)
    for name, method in methods.items():
        ways[name] = partial(Stages, setting, method, lag=int(name == LEARNS))
    return {name: _row(make(), seconds) for name, make in ways.items()}


def _row(way: Contestant, seconds: float) -> dict[str, float]:
    found = pace(way, seconds, LEAST, _left)
    # One process sends nothing, whatever else leaves the machine.
    up, down = found.sent if len(found.sent) > 1 else (0.0, 0.0)
    return {"per_second": way.setting.batch / found.seconds, "busy": found.busy, "up": up, "down": down}


def _left() -> int:
    """Bytes that have left this host."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == Hosts.interface:
            return int(numbers.split()[8])
    return 0


def _medians(rounds: list[Free]) -> Free:
    return {
        way: {key: statistics.median(found[way][key] for found in rounds) for key in row}
        for way, row in rounds[0].items()
    }


def foretold(line: Line, free: Free, rows: int) -> dict[str, Any]:
    """What a simulation says of a link, from what was measured without a limit: samples a second of two ranks, of many,
    and of R × K decoupled stages, whose replicas send around the gradients of a stage.
    """
    link = Link(line.trip / 2e3, float("inf") if line.rate is None else line.rate * 1e6 / 8)
    several = [way for way, row in free.items() if row["down"] + row["up"] > 0]
    row, ranks = free["pipeline sg"], [(R, K) for R in COUNTS for K in COUNTS if R * K <= 64]
    costs = _costs(2 * rows / row["per_second"], rows, (row["down"] + row["up"]) / 2, _weights(free["torch DDP"]))

    def speed(way: str, K: int) -> float:
        return rows / _step(way, free[way], rows, link, K)

    return {
        "rate": line.rate,
        "trip": line.trip,
        "predicted": {way: speed(way, 2) for way in free},
        "many": {way: {str(K): speed(way, K) for K in COUNTS} for way in several},
        "grid": {f"{R}x{K}": rows / decoupled_step(costs, link, rows, K, R) for R, K in ranks},
    }


def _step(way: str, row: dict[str, float], rows: int, link: Link, K: int) -> float:
    T0 = rows / row["per_second"]
    if row["down"] + row["up"] == 0:
        return T0
    if way == "torch DDP":
        return 2 * T0 / K + link.all_reduce(_weights(row), K)
    if way in ORDERS:
        order, m = ORDERS[way]
        work = 2 * T0 * m / (m + 1)
        return synchronous_step(_costs(work, rows, (row["down"] + row["up"]) / 2), link, rows, K, m, order)
    costs = _costs(2 * T0, rows, row["down"])
    return decoupled_step(costs, link, rows, K, sizes=(row["down"], row["up"]), learns=way in WAITING)


def _weights(ddp: dict[str, float]) -> float:
    """Bytes of all gradients: what each of two ranks sends of a ring."""
    return (ddp["down"] + ddp["up"]) / 2


def _costs(work: float, rows: int, state: float, weights: float = 0.0) -> Costs:
    """Of a network that takes so long for a batch: a third of it forward."""
    forward, backward, nothing = (Seconds(0.0, part * work / rows) for part in (1 / 3, 2 / 3, 0))
    return Costs(forward, backward, nothing, nothing, 0.0, weights, state / rows)


def table(result: dict[str, Any]) -> str:
    """As Markdown: samples a second, in brackets the prediction; busy share and bytes without a limit."""
    measured, lines = result["measured"], []
    for way, row in measured[FAST].items():
        guesses = [link["predicted"][way] for link in result["links"].values()]
        pairs = zip((found.get(way) for found in measured.values()), guesses, strict=True)
        cells = [f"{found['per_second']:,.0f} ({guess:,.0f})" if found else "" for found, guess in pairs]
        lines.append([way, *cells, f"{row['busy']:.2f}", f"{(row['up'] + row['down']) / 1e3:,.0f}"])
    head = ["", *measured, "busy", "kB a batch"]
    return f"{result['name']}: samples a second, measured (predicted)\n\n{markdown(head, lines)}"
