"""What a link does to a way of training whose own speed is known, and what many hosts would do.

T0     seconds a batch of two stages, or replicas, without a limit, as measured; serial for one process
D, U   bytes a batch that leave the host of the first stage and that of the second, as measured
K, R   stages and replicas; the work of a stage is 2 T0 / K
"""

from collections.abc import Iterable
from typing import Any

from costate.benchmarks.simulation import (
    Costs,
    Link,
    decoupled_step,
    gpipe,
    one_f_one_b,
    synchronous_step,
)
from costate.benchmarks.simulation import (
    Line as Seconds,
)

MICRO = 4
"""Micro-batches of torch's schedules."""
COUNTS = 2, 4, 8, 16, 32, 64
ORDERS = {"torch 1F1B": (one_f_one_b, MICRO), "torch GPipe": (gpipe, MICRO), "pipeline backprop": (gpipe, 1)}
WAITING = "pipeline sg", "pipeline delayed"
"""Of the decoupled ways those in which something waits for what comes up, a batch late."""
NOTHING = Seconds(0.0, 0.0)
Free = dict[str, dict[str, float]]


def predicted(free: Free, rows: int, link: dict[str, Any]) -> dict[str, float]:
    """Samples a second of two ranks over a link, for each way."""
    return {way: rows / _step(way, row, rows, link_of(link), 2) for way, row in free.items()}


def many(free: Free, rows: int, link: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The same for more ranks, for all ways that have several."""
    found = {}
    for way, row in free.items():
        if row["down"] + row["up"] > 0:
            found[way] = {str(K): rows / _step(way, row, rows, link_of(link), K) for K in COUNTS}
    return found


def grid(free: Free, rows: int, link: dict[str, Any]) -> dict[str, float]:
    """Samples a second of R × K decoupled stages; replicas send around the gradients of a stage."""
    row = free["pipeline sg"]
    costs = _costs(2 * rows / row["per_second"], rows, (row["down"] + row["up"]) / 2, _weights(free["torch DDP"]))
    return {
        f"{R}x{K}": rows / decoupled_step(costs, link_of(link), rows, K, R) for R in COUNTS for K in _up_to(64 // R)
    }


def link_of(link: dict[str, Any]) -> Link:
    """α is half of a round trip."""
    rate = link["rate"]
    return Link(link["trip"] / 2e3, float("inf") if rate is None else rate * 1e6 / 8)


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
    forward, backward = (Seconds(0.0, part * work / rows) for part in (1 / 3, 2 / 3))
    return Costs(forward, backward, NOTHING, NOTHING, 0.0, weights, state / rows)


def _up_to(most: int) -> Iterable[int]:
    return (K for K in COUNTS if most >= K)
