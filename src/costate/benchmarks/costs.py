"""What the parts of a step cost on this machine, measured on two processes at work, for the simulation of many.

Seconds of each part on one thread with both cores at work, as in a pipeline, and of a link between the processes.
"""

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import ScheduleGPipe

from costate.benchmarks import build, medians
from costate.benchmarks.contest import Autograd, Ddp, Setting, TorchPipeline
from costate.benchmarks.simulation import Copied, Costs, Line, Link
from costate.core.block import stacked
from costate.core.stage import Stage
from costate.core.tasks import Classification
from costate.training.module import stages

WARMUP, REPEATS, MICRO = 3, 30, 4
SIZES = {"link": (8_000, 524_288), "ring": (80_000, 4_000_000)}
"""Bytes by which a link is measured, of messages and of all-reduces: the larger ones as a state and as a bucket of the
network that is measured by default, because gloo and TCP take what is larger in several turns."""


def measure(setting: Setting, coarse: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each part on one thread with both cores at work, as in a pipeline, and the link's for two sizes."""
    parts: dict[str, Any] = {str(rows): _passes(setting, rows) for rows in (setting.batch, setting.batch // MICRO)}
    parts["copies"] = _copies(setting, coarse)
    parts["beside"] = _beside(setting, parts[str(setting.batch // MICRO)])
    return parts | between()


class Clocked:
    """Seconds of what is done, by names."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)

    def __call__(self, name: str, work: Callable[..., Any], *things: Any) -> Any:
        start = time.perf_counter()
        result = work(*things)
        self.times[name].append(time.perf_counter() - start)
        return result

    def means(self) -> dict[str, float]:
        """A step's time is the sum of its parts' means: of what now and then takes longer a median knows nothing."""
        return {name: statistics.fmean(values[WARMUP:]) for name, values in self.times.items()}


def _passes(setting: Setting, rows: int) -> dict[str, float]:
    front, back, adam = _two(setting, setting.method)
    batches = [(x[:rows], y[:rows]) for x, y in setting.batches()]
    x, y = batches[0]
    h = front.send(0, x, y, first=True)
    g = torch.randn_like(h)
    front.update(0, None)
    synthesizer: Any = front.interface
    clocked = Clocked()
    for n in range(WARMUP + REPEATS):
        # Batches that no cache holds from the last time, as in training.
        x, y = batches[n % len(batches)]
        adam.zero_grad()
        predicted = clocked("predict", synthesizer.gradient, h, y, None, 0)
        h_out, output = clocked("forward", _forward, front, back, x)
        clocked("backward", _backward, back, y, h_out, output, predicted)
        clocked("learn", lambda y=y: synthesizer.fit(h, y, g).backward())
        clocked("optimizer", adam.step)
    weights = sum(p.numel() * p.element_size() for stage in (front, back) for p in stage.block.parameters())
    return clocked.means() | {"weights": weights, "state": h[0].numel() * h.element_size()}


def _two(setting: Setting, method: dict[str, Any]) -> tuple[Stage, Stage, torch.optim.Optimizer]:
    """The stages of two, and the optimizer of their layers."""
    rule = build(method)
    front, back = stages(setting.cut(2, rule), setting.shape, Classification(setting.classes), rule)
    layers = nn.ModuleList([front.block, back.block])
    return front, back, build(setting.optimizer)([{"params": list(layers.parameters())}], stacked(layers))


def _copies(setting: Setting, method: dict[str, Any]) -> dict[str, float]:
    """Seconds of two stages' operations with coarse copies, answers of a long copy and of a short one among them."""
    front, back, adam = _two(setting, method)
    rule, clocked, batches = build(method), Clocked(), setting.batches()
    far: Any = front.interface
    near = rule.interface(back.inlet, Classification(setting.classes), setting.network().cut(8)[-1:])
    assert back.likeness is not None, "the first stage has its copy"
    for n in range(2 * (WARMUP + REPEATS)):
        x, y = batches[n % len(batches)]
        adam.zero_grad()
        h = clocked("front forward", front.send, n, x, y, True)
        clocked("back forward", back.send, n, h, y, False)
        clocked("front update", front.update, n, None)
        tunes = bool(n % 2)
        clocked("tuned update" if tunes else "back update", back.update, n, None, False, tunes)
        clocked("near", near.gradient, h, y, None, n)
        clocked("far", far.gradient, h, y, None, n)
        numbers = clocked("made", back.likeness.numbers, back.block, far.copies.exact(0))
        clocked("taken", far.copies.take, 0, numbers)
        adam.step()
    layers = {"front": front.block.layers, "back": back.block.layers}
    of_copies = {"near layers": near.copies.blocks[0].layers, "far layers": far.copies.blocks[0].layers}
    return clocked.means() | layers | of_copies


def copied(measured: list[dict[str, Any]], method: dict[str, Any], costs: Costs, rows: int) -> Copied:
    """What follows from the medians of what was measured."""
    found = medians([one["copies"] for one in measured])
    front, back, near, far = (found[name] for name in ("front", "back", "near layers", "far layers"))
    slope = max(0.0, (found["far"] - found["near"]) / (far - near))

    def passes(first: float, last: float) -> tuple[float, float]:
        """Of the opening, which the first stage has, and of a layer."""
        return max(0.0, first - last / back * front), last / back

    return Copied(
        forward=passes(found["front forward"], found["back forward"]),
        backward=passes(found["front update"] - found["far"], found["back update"]),
        answer=Line(max(0.0, found["far"] - slope * far), slope),
        tune=max(0.0, found["tuned update"] - found["back update"]) / back,
        every=method["tune"] or math.inf,
        made=found["made"] / back,
        taken=found["taken"] / far,
        refresh=method["refresh"],
        optimizer=costs.optimizer,
        state=rows * costs.state,
    )


def _beside(setting: Setting, passes: dict[str, float]) -> dict[str, float]:
    """E and D, on one process: what torch's own ways take for a step there, less the passes and the optimizer."""
    alone, _ = dist.new_subgroups(1)
    pipeline = TorchPipeline(setting, ScheduleGPipe, MICRO, alone)
    ways = {"autograd": Autograd(setting), "ddp": Ddp(setting, alone), "pipeline": pipeline}
    batches, clocked = setting.batches(), Clocked()
    for n in range(WARMUP + REPEATS):
        for name, way in ways.items():
            clocked(name, way.step, n, *batches[n % len(batches)], True)
    took = clocked.means()
    known = MICRO * (passes["forward"] + passes["backward"]) + passes["optimizer"]
    return {"engine": max(0.0, took["pipeline"] - known) / MICRO, "reducer": max(0.0, took["ddp"] - took["autograd"])}


def _forward(front: Stage, back: Stage, x: Tensor) -> tuple[Tensor, Tensor]:
    h = front.block(x)
    return h, back.block(h.detach().requires_grad_())


def _backward(back: Stage, y: Tensor, h: Tensor, output: Tensor, predicted: Tensor) -> None:
    output.backward(back.interface.gradient(output.detach(), y, None, 0))
    h.backward(predicted)


def _there_and_back(message: Tensor) -> None:
    for turn in (0, 1):
        (dist.send if dist.get_rank() == turn else dist.recv)(message, 1 - dist.get_rank())


def between() -> dict[str, dict[str, float]]:
    """Seconds that both ranks take for a message there and back, and for an all-reduce, by bytes."""
    return {
        name: {str(size): _exchange(exchange, torch.zeros(size // 4)) for size in SIZES[name]}
        for name, exchange in (("link", _there_and_back), ("ring", dist.all_reduce))
    }


def _exchange(exchange: Callable[[Tensor], Any], message: Tensor) -> float:
    """Seconds of one, of as many as half a second has room for; the first two open the link's window."""
    seconds, repeats = torch.ones(1), 1
    for _ in range(3):
        dist.barrier()
        # Of the first one its receiver tells only now that it has room.
        exchange(message)
        start = time.perf_counter()
        for _ in range(repeats):
            exchange(message)
        seconds = torch.tensor([(time.perf_counter() - start) / repeats])
        dist.broadcast(seconds, 0)
        repeats = max(1, min(REPEATS, round(0.5 / seconds.item())))
    return seconds.item()


def ways(measured: dict[str, Any]) -> tuple[Link, Link]:
    """A link as messages find it, and as an all-reduce does: two messages each, of the whole size and of half of it."""

    def way(name: str, per_byte: int) -> Link:
        found = _line(measured[name])
        return Link(found.c0 / 2, per_byte / found.c1 if found.c1 else float("inf"))

    return way("link", 2), way("ring", 1)


def fitted(measured: list[dict[str, Any]]) -> tuple[Costs, Link]:
    """The lines through two sizes of what was measured."""
    found, sizes = medians(measured), [name for name in measured[0] if name.isdigit()]

    def part(name: str) -> Line:
        return _line({size: found[size][name] for size in sizes})

    passes = part("forward"), part("backward"), part("predict"), part("learn")
    optimizer = statistics.median(one[size]["optimizer"] for one in measured for size in sizes)
    one, beside = measured[0][sizes[0]], found["beside"]
    link, ring = ways(found)
    return Costs(*passes, optimizer, one["weights"], one["state"], beside["engine"], beside["reducer"], ring), link


def _line(seconds: dict[str, float]) -> Line:
    """Through those of two sizes."""
    small, large = sorted(seconds, key=int)
    slope = max(0.0, (seconds[large] - seconds[small]) / (int(large) - int(small)))
    return Line(max(0.0, seconds[large] - slope * int(large)), slope)
