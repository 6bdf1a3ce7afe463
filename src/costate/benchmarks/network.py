"""The same network, batch and two ranks over links that are slow or far, and what a simulation says of many hosts.

Each rank is a host of its own (`costate.benchmarks.hosts`). Rates are the kernel's (`tc tbf`); round trips are made by
a switch of ours that holds each packet for half of one. Measured, of each way with the limit and right before without:
samples a second, CPU seconds a second of the busier rank, bytes that leave both hosts for a batch; and of the link, how
long messages and all-reduces take. Predicted, by a simulation, from the way's speed without a limit, its bytes, and
those seconds of the link:

    W      seconds of a network's work for a batch, with which the simulation has the way's speed without a limit
    D, U   bytes a batch that leave the host of the first stage and that of the second, as measured; of copies, which
           are made every 215 batches, a 215th
    K, R   stages and replicas; the work of a stage is W / K
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist

from costate.benchmarks import markdown, medians, write
from costate.benchmarks.contest import REFRESH, Autograd, Contestant, Ddp, Setting, Stages, TorchPipeline, launch, pace
from costate.benchmarks.costs import between, ways
from costate.benchmarks.hosts import Hosts, Throttle, lacking
from costate.benchmarks.simulation import Costs, Link, buckets, decoupled_step, gpipe, one_f_one_b, synchronous_step
from costate.benchmarks.simulation import Line as Seconds
from costate.benchmarks.speed import SCHEDULES, Nodes, grid, nodes_of, setting_of
from costate.core.schedules import Operation
from costate.reports import benchmarks as figures

UNLOCKED = "full unlock"
"""Nobody waits for a message but for a copy, which has some batches for its way."""
COARSE, FEWER = "pipeline coarse", "coarse, int8"
"""The second sends states in a quarter of their bytes (`execution.wire`)."""
METHODS = {
    "pipeline backprop": ["method=backprop"],
    "pipeline sg": ["method=sg", "method/synthesizer=linear"],
    COARSE: ["method=coarse", f"method.refresh={REFRESH}"],
    "pipeline delayed": ["method=delayed"],
    # A copy of all takes two seconds at 10 Mb/s.
    UNLOCKED: ["method=coarse", f"method.refresh={REFRESH}", "method.inputs=coarse", "method.travel=64"],
}
LEARNS = "pipeline sg"
"""Its interfaces learn, one batch late."""
FAST, RATES, TRIPS = "no limit", (10_000.0, 1_000.0, 100.0, 10.0), (0.1, 1.0, 10.0, 100.0)
SERIAL = "serial backprop"
LEAST, MICRO = 3, 4
"""Batches of a row at least; micro-batches of torch's schedules."""
COUNTS = 2, 4, 8, 16, 32, 64
DDP, OURS = "torch DDP", "pipeline backprop"
ORDERS = {"torch 1F1B": (one_f_one_b, MICRO), "torch GPipe": (gpipe, MICRO), OURS: (gpipe, 1)}
WAITING = {LEARNS: Operation.LEARN, "pipeline delayed": Operation.UPDATE}
"""Of the decoupled ways those in which something waits for what comes up, a batch late."""
Rows = dict[str, dict[str, float]]


class Over(NamedTuple):
    """What was measured over one link: of every way, and of messages and all-reduces, by their bytes."""

    rows: Rows
    link: dict[str, dict[str, float]]


class Pair(NamedTuple):
    """Each way without a limit, and right after that over a link."""

    free: Over
    limited: Over


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
    pairs: dict[Line, list[Pair]] = {line: [] for line in lines}
    for i in range(options.rounds):
        for line, found in pairs.items():
            found.append(timed(line, setting, options.seconds))
            told = ", ".join(f"{way} {row['per_second']:.0f}" for way, row in found[-1].limited.rows.items())
            print(f"{i + 1}/{options.rounds}, {line.name}: {told}", flush=True)
        # A round takes minutes, and is not lost with a later one.
        result = result_of(setting.name, setting.batch, pairs)
        drawn = {"whole": figures.links(result), "many": figures.many(result, COUNTS)}
        write(options.out, "network", result, table(result), **drawn)
    print(f"\n{table(result)}")


def timed(line: Line, setting: Setting, seconds: float) -> Pair:
    """Every way over one link, in fresh processes."""
    with Hosts(2, line.trip / 2e3) as hosts:
        networks = [hosts.network(name) for name in hosts.names]
        throttle = hosts.throttle(line.rate)
        pair: Pair = launch(2, 1, _together, setting, nodes_of(METHODS), seconds, throttle, networks=networks)
    if line != Line():
        return pair
    alone: Rows = {SERIAL: launch(1, 1, _alone, setting, seconds)}
    return Pair(*(over._replace(rows=alone | over.rows) for over in pair))


def _alone(setting: Setting, seconds: float) -> dict[str, float]:
    return _row(Autograd(setting), seconds)


def _together(setting: Setting, methods: Nodes, seconds: float, throttle: Throttle) -> Pair:
    made: dict[str, Callable[[], Contestant]] = {DDP: lambda: Ddp(setting)}
    for name, schedule in SCHEDULES.items():
        made[name] = partial(TorchPipeline, setting, schedule, MICRO)
    for name, method in methods.items():
        made[name] = partial(Stages, setting, method, lag=int(name == LEARNS))
    made[FEWER] = partial(Stages, setting, methods[COARSE], lag=0, wire="int8")
    found = {on: Over({}, {}) for on in ((False, True) if throttle.limits else (False,))}
    for name, make in made.items():
        for on, over in found.items():
            _turn(throttle, on)
            over.rows[name] = _row(make(), seconds)
    for on, over in found.items():
        _turn(throttle, on)
        over.link.update(between())
    return Pair(found[False], found[throttle.limits])


def _turn(throttle: Throttle, on: bool) -> None:
    """All hosts at once, with nothing under way."""
    dist.barrier()
    throttle(on)
    dist.barrier()


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


def result_of(name: str, rows: int, pairs: dict[Line, list[Pair]]) -> dict[str, Any]:
    """Medians over the rounds of what was measured and predicted, of how far predictions are off, and of the share of
    its own speed that each way has kept."""
    # A switch of ours takes of the machine what the kernel's does not.
    free = _middle([pair.free for line, found in pairs.items() if not line.trip for pair in found])
    measured, links = {FAST: free.rows}, {}
    for line, found in pairs.items():
        limited = _middle([pair.limited for pair in found])
        measured.setdefault(line.name, limited.rows)
        rounds = [_compared(pair, rows) for pair in found]
        links[line.name] = line._asdict() | medians(rounds) | many(Pair(free, limited), rows)
    return {"name": name, "batch": rows, "measured": measured, "links": links}


def _middle(found: Sequence[Over]) -> Over:
    return Over(medians([one.rows for one in found]), medians([one.link for one in found]))


def _compared(pair: Pair, rows: int) -> dict[str, dict[str, float]]:
    guess, seen = foretold(pair, rows), pair.limited.rows
    off = {way: guess[way] / row["per_second"] - 1 for way, row in seen.items()}
    kept = {way: row["per_second"] / pair.free.rows[way]["per_second"] for way, row in seen.items()}
    return {"predicted": guess, "off": off, "kept": kept}


def foretold(pair: Pair, rows: int) -> dict[str, float]:
    """Samples a second over the link, from what was measured without a limit."""
    return {way: rows / _step(way, pair, rows, 2) for way in pair.free.rows}


def many(pair: Pair, rows: int) -> dict[str, Any]:
    """The same of many hosts, and of R × K decoupled stages, whose replicas send around the gradients of a stage."""
    free = pair.free.rows
    several = [way for way, row in free.items() if row["down"] + row["up"] > 0]
    row, (link, ring) = free[LEARNS], ways(pair.limited.link)
    costs = _costs(2 * rows / row["per_second"], rows, (row["down"] + row["up"]) / 2, _weights(free[DDP]), ring)
    return {
        "many": {way: {str(K): rows / _step(way, pair, rows, K) for K in COUNTS} for way in several},
        "grid": grid(costs, link, rows, COUNTS),
    }


def _step(way: str, pair: Pair, rows: int, K: int) -> float:
    """Seconds a batch of K hosts over the link, of the work with which two have their speed without a limit."""
    row = pair.free.rows[way]
    seconds = rows / row["per_second"]
    if row["down"] + row["up"] == 0:
        return seconds
    free, limited = ways(pair.free.link), ways(pair.limited.link)
    least, most = 0.0, 4 * seconds
    for _ in range(20):
        work = (least + most) / 2
        least, most = (work, most) if _played(way, work, row, rows, free, 2) < seconds else (least, work)
    return _played(way, most, row, rows, limited, K)


def _played(way: str, work: float, row: dict[str, float], rows: int, ways: tuple[Link, Link], K: int) -> float:
    """Seconds a batch of a network that takes so long for it, on K hosts."""
    link, ring = ways
    if way == DDP:
        return work / K + sum(ring.all_reduce(size, K) for size in buckets(_weights(row)))
    if way in ORDERS:
        costs, (order, m) = _costs(work, rows, (row["down"] + row["up"]) / 2), ORDERS[way]
        return synchronous_step(costs, link, rows, K, m, order, expected=way == OURS)
    sizes = row["down"], row["up"]
    if way == UNLOCKED:
        return max(work / K, *(size / link.bandwidth for size in sizes))
    return decoupled_step(_costs(work, rows, 0.0), link, rows, K, sizes=sizes, waits=WAITING.get(way))


def _weights(ddp: dict[str, float]) -> float:
    """Bytes of all gradients: what each of two ranks sends of a ring."""
    return (ddp["down"] + ddp["up"]) / 2


def _costs(work: float, rows: int, state: float, weights: float = 0.0, ring: Link | None = None) -> Costs:
    """Of a network that takes so long for a batch: a third of it forward."""
    forward, backward, nothing = (Seconds(0.0, part * work / rows) for part in (1 / 3, 2 / 3, 0))
    return Costs(forward, backward, nothing, nothing, 0.0, weights, state / rows, ring=ring)


def table(result: dict[str, Any]) -> str:
    """As Markdown: samples a second, the share of its own speed that each way has kept, and how far predictions are
    off; busy share and bytes of the first."""
    measured, limits = result["measured"], [name for name in result["measured"] if name != FAST]
    speeds, shares = [], []
    for way, row in measured[FAST].items():
        cells = [f"{found[way]['per_second']:,.0f}" if way in found else "" for found in measured.values()]
        speeds.append([way, *cells, f"{row['busy']:.2f}", f"{(row['up'] + row['down']) / 1e3:,.0f}"])
        links = [result["links"][name] for name in limits]
        if way != SERIAL:
            shares.append([way, *(f"{link['kept'][way]:.2f} ({link['off'][way]:+.0%})" for link in links)])
    first = markdown(["", *measured, "busy", "kB a batch"], speeds)
    if not limits:
        return f"{result['name']}: samples a second\n\n{first}"
    second = markdown(["", *limits], shares)
    told = "over the same way's without a limit, right before (error of the prediction)"
    return f"{result['name']}: samples a second\n\n{first}\n\n{told}\n\n{second}"
