"""A discrete-event simulation of ways to train on many processes.

    F, B   seconds of the forward and of the backward pass of the whole network on so many rows: c0 + c1 rows each
    P, L   seconds in which a boundary's synthesizer predicts and learns
    O      seconds of the optimizer's step of the whole network
    E, D   seconds that torch's pipelines take beside the passes for a micro-batch of a stage, and DDP for a step
    A      seconds in which a copy of so many layers answers
    α, β   latency (seconds) and bandwidth (bytes a second) of a link
    K, R   stages and replicas; m micro-batches

A process does one thing at a time, messages travel meanwhile; the network is cut evenly, for coarse copies by
`balance=work`. What is asked for is the time from one step to the next when the pipeline is full.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from costate.core.schedules import Operation, decoupled, delayed

WINDOW = 4
"""Messages of a pipeline that may be under way, as in `conf/execution/pipeline.yaml`."""

STEPS = 160
"""Steps that are played; the second half of them is timed, when 64 stages on far links have found their pace."""


@dataclass(frozen=True)
class Line:
    """Seconds as a function of rows: c0 + c1 rows. The first part is what an operation costs however small it is."""

    c0: float
    c1: float

    def __call__(self, rows: float) -> float:
        return self.c0 + self.c1 * rows


@dataclass(frozen=True)
class Link:
    """α seconds, then β bytes a second."""

    latency: float
    bandwidth: float

    def __call__(self, size: float) -> float:
        return self.latency + size / self.bandwidth

    def all_reduce(self, size: float, ranks: int) -> float:
        """A ring: 2 (R − 1) messages of size / R (Patarasuk & Yuan, 2009)."""
        return 2 * (ranks - 1) * self(size / ranks) if ranks > 1 else 0.0


FIRST, OTHERS = 2**20, 25 * 2**20
"""Bytes of the buckets in which DDP averages gradients, each by an all-reduce of its own."""


def buckets(size: float) -> list[float]:
    """DDP's, of so many bytes."""
    found = [min(size, FIRST)]
    while (left := size - sum(found)) > 0:
        found.append(min(left, OTHERS))
    return found


class Wire:
    """One direction of a link: a message leaves when the one before it has left."""

    def __init__(self, link: Link):
        self.link, self._free = link, 0.0

    def carry(self, start: float, size: float) -> float:
        """When a message arrives that is handed over at `start`."""
        self._free = max(self._free, start) + size / self.link.bandwidth
        return self._free + self.link.latency

    def word(self, start: float) -> float:
        """When a few bytes arrive that are handed over at `start`: behind the messages that wait for the wire."""
        return max(self._free, start) + self.link.latency


@dataclass(frozen=True)
class Costs:
    """What the parts of a step cost on the machine at hand.

    Args:
        weights: bytes of all gradients of the network.
        state: bytes of a sample's state at a boundary.
        ring: the link as an all-reduce finds it, where that is known by itself.
    """

    forward: Line
    backward: Line
    predict: Line
    learn: Line
    optimizer: float
    weights: float
    state: float
    engine: float = 0.0
    reducer: float = 0.0
    ring: Link | None = None


def decoupled_step(
    costs: Costs,
    link: Link,
    rows: float,
    K: int,
    R: int = 1,
    lag: int = 1,
    window: int = WINDOW,
    sizes: tuple[float, float] | None = None,
    waits: Operation | None = Operation.LEARN,
) -> float:
    """Seconds a step of R replicas of K decoupled stages, each replica on rows / R.

    Args:
        lag: batches by which what comes up is late.
        sizes: bytes a batch that go down a boundary and up, where they are not a state's each.
        waits: what waits for what comes up: interfaces that learn, updates under true gradients, or nothing.
    """
    rows /= R
    f, u, learn = costs.forward(rows) / K, costs.backward(rows) / K, costs.learn(rows)
    end = costs.optimizer / K + (costs.ring or link).all_reduce(costs.weights / K, R)
    works = [Work(f, u + (costs.predict(rows) if k + 1 < K else 0), learn, end) for k in range(K)]
    return play(works, link, sizes or (rows * costs.state, rows * costs.state), lag, window, waits)


class Work(NamedTuple):
    """Seconds of a stage for a batch; the interface's answer is in the update."""

    forward: float
    update: float
    learn: float
    end: float


@dataclass(frozen=True)
class Copied:
    """What stages with coarse copies behind them cost for a batch.

    Args:
        forward, backward: seconds of a layer; those of the opening come first.
        answer: A, of layers of the copy, forward and backward.
        tune: seconds of tuning a layer's copy, `every` so many batches.
        made, taken: seconds of making a layer's copy and of taking in a copied layer, every `refresh` batches.
        optimizer: of the whole network.
        state: bytes at a boundary.
    """

    forward: tuple[float, float]
    backward: tuple[float, float]
    answer: Line
    tune: float
    every: float
    made: float
    taken: float
    refresh: float
    optimizer: float
    state: float


def coarse_step(
    copied: Copied, link: Link, layers: Sequence[int], copies: Sequence[int], window: int = WINDOW
) -> float:
    """Seconds a step of stages that update by copies of all that is behind. Nobody waits for what goes up: a copy has
    some batches for its way.

    Args:
        layers: of each stage.
        copies: layers of each one's copy.
    """
    works = []
    for k, own in enumerate(layers):
        behind, first, last = sum(copies[k + 1 :]), k == 0, k + 1 == len(layers)
        passes = [opening * first + layer * own for opening, layer in (copied.forward, copied.backward)]
        answer = 0.0 if last else copied.answer(behind)
        # The first stage is nobody's copy.
        tune = 0.0 if first or copies[k] >= own else copied.tune * own / copied.every
        renewed = copied.taken * behind + (0.0 if first else copied.made * own)
        end = copied.optimizer * own / sum(layers) + renewed / copied.refresh
        works.append(Work(passes[0], passes[1] + answer + tune, 0.0, end))
    return play(works, link, (copied.state, 0.0), 0, window, None)


def play(
    works: Sequence[Work], link: Link, sizes: tuple[float, float], lag: int, window: int, waits: Operation | None
) -> float:
    """Seconds a step of decoupled stages."""
    schedule = delayed if waits is Operation.UPDATE else decoupled
    K = len(works)
    free = [0.0] * K
    down, up = [[Wire(link) for _ in range(K)] for _ in range(2)]
    arrived, taken, gradient, room = [[[0.0] * STEPS for _ in range(K)] for _ in range(4)]
    steps = []
    for n in range(STEPS):
        events = list(schedule(K, n, lag))
        behind = {k - 1: batch for operation, k, batch in events if operation is Operation.UPDATE}
        for operation, k, batch in events:
            if operation is Operation.FORWARD:
                taken[k][n] = max(free[k], arrived[k][n])
                free[k] = taken[k][n] + works[k].forward
                # Room for what comes up meanwhile is made now, for a later state when this one is taken.
                if k in behind:
                    room[k][behind[k]] = down[k].word(free[k])
                if k + 1 < K:
                    if n >= window:
                        free[k] = max(free[k], arrived[k + 1][n - window] - link.latency)
                    heard = up[k].word(taken[k + 1][n - window]) if n >= window else 0.0
                    arrived[k + 1][n] = down[k].carry(max(free[k], heard), sizes[0])
            elif operation is Operation.UPDATE:
                if waits is operation and k + 1 < K:
                    free[k] = max(free[k], gradient[k][batch])
                free[k] += works[k].update
                if k > 0:
                    gradient[k - 1][batch] = up[k].carry(max(free[k], room[k - 1][batch]), sizes[1])
            elif waits is operation:
                free[k] = max(free[k], gradient[k][batch]) + works[k].learn
        free = [time + work.end for time, work in zip(free, works, strict=True)]
        steps.append(max(free))
    return (steps[-1] - steps[STEPS // 2 - 1]) / (STEPS - STEPS // 2)


def gpipe(K: int, m: int, k: int) -> Iterator[tuple[str, int]]:
    """All forward passes, then all backward passes (Huang et al., 2019): of stage k, (pass, micro-batch)."""
    yield from (("F", i) for i in range(m))
    yield from (("B", i) for i in range(m))


def one_f_one_b(K: int, m: int, k: int) -> Iterator[tuple[str, int]]:
    """A backward pass after each forward pass as soon as there is one (Narayanan et al., 2019)."""
    ahead = min(K - k, m)
    yield from (("F", i) for i in range(ahead))
    for i in range(m):
        yield ("B", i)
        if ahead + i < m:
            yield ("F", ahead + i)


def synchronous_step(
    costs: Costs, link: Link, rows: float, K: int, m: int, order: Any = one_f_one_b, expected: bool = False
) -> float:
    """Seconds a step of K stages that wait for the true gradients of m micro-batches, and then step together.

    Args:
        expected: whether a receiver says early that it has room. Torch's say it when they come to wait, and a message
            leaves when its sender has heard of it; in 1F1B a stage also waits until what it has sent is gone, and word
            of room goes behind that.
    """
    part, waits = rows / m, order is one_f_one_b and not expected
    seconds = {name: line(part) / K + costs.engine / 2 for name, line in (("F", costs.forward), ("B", costs.backward))}
    wires = {name: [Wire(link) for _ in range(K)] for name in "FB"}
    # Of messages, by the pass, the stage that sends and the micro-batch: handed over, room heard of, arrived.
    sent, room, there = [dict[tuple[str, int, int], float]() for _ in range(3)]
    work = [list(order(K, m, k)) for k in range(K)]
    free, place = [0.0] * K, [0] * K

    def arrival(message: tuple[str, int, int]) -> float:
        if message not in there:
            name, k, _ = message
            there[message] = wires[name][k].carry(max(sent[message], room[message]), part * costs.state)
        return there[message]

    while any(place[k] < len(work[k]) for k in range(K)):
        for k in range(K):
            while place[k] < len(work[k]):
                name, i = work[k][place[k]]
                needed = (name, k - 1 if name == "F" else k + 1, i)
                (last, j) = work[k][place[k] - 1]
                gone = (last, k, j)
                ready = free[k]
                if 0 <= needed[1] < K:
                    back = wires["B" if name == "F" else "F"][k]
                    if waits and place[k] and gone in room:
                        # Handed over together: the word waits behind what the stage sends itself.
                        arrival(gone)
                    room.setdefault(needed, 0.0 if expected else back.word(free[k]))
                    if needed not in sent:
                        break
                    ready = arrival(needed)
                if waits and place[k] and name + last != "FF" and (k < K - 1 if last == "F" else k > 0):
                    if gone not in room:
                        break
                    ready = max(ready, arrival(gone) - link.latency)
                free[k] = max(free[k], ready) + seconds[name]
                sent[name, k, i] = free[k]
                place[k] += 1
    return max(free) + costs.optimizer / K


def data_parallel_step(costs: Costs, link: Link, rows: float, R: int) -> float:
    """Seconds a step of R replicas of the whole network, gradients averaged at the end."""
    passes = costs.forward(rows / R) + costs.backward(rows / R)
    averaged = sum((costs.ring or link).all_reduce(size, R) for size in buckets(costs.weights))
    return passes + costs.reducer + averaged + costs.optimizer
