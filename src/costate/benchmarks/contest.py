"""Contestants: ways to train one network on one or two processes, each a step to be timed, and how it is timed.

All take the same network, batches and optimizer; none has a trainer or a loader around it.
"""

import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count, islice
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn
from torch.distributed.pipelining import PipelineStage
from torch.nn.parallel import DistributedDataParallel

from costate.benchmarks import build
from costate.benchmarks.hosts import Hosts, enter
from costate.benchmarks.simulation import WINDOW
from costate.core.block import Block, Network, stacked
from costate.core.copies import Copies
from costate.core.method import Method
from costate.core.tasks import Classification
from costate.execution.pipeline import Pipeline
from costate.execution.serial import Serial
from costate.methods.compression import Precision
from costate.training.balance import by_work
from costate.training.module import stages

REFRESH = 215
"""Batches from one copy to the next: what the default comes to in a run of 15 epochs on MNIST."""


class Setting(NamedTuple):
    """One network and its batches; `arch`, `method` and `optimizer` are nodes of the configuration."""

    name: str
    arch: dict[str, Any]
    method: dict[str, Any]
    optimizer: dict[str, Any]
    shape: tuple[int, ...]
    classes: int
    batch: int
    balance: list[int] | None = None

    def network(self) -> Network:
        """The same weights on every rank."""
        torch.manual_seed(0)
        return build(self.arch, self.shape, self.classes)

    def cut(self, stages: int, rule: Method | None = None) -> list[Block]:
        """The network, for whoever puts a stage on each rank; where stages ask copies, by the work of both."""
        network, balance = self.network(), self.balance if stages > 1 else None
        if rule is not None and rule.copies is not None:
            balance = by_work(network, rule, stages, self.shape, Classification(self.classes))
        return network.cut(stages, balance)

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """A few, to be taken in turn."""
        generator = torch.Generator().manual_seed(1)
        found = []
        for _ in range(4):
            x = torch.randn(self.batch, *self.shape, generator=generator)
            found.append((x, torch.randint(self.classes, (self.batch,), generator=generator)))
        return found


class Contestant(ABC):
    """One way to train.

    Attributes:
        ahead: of how many batches to come it is told.
        sent: bytes that this rank has sent to the other.
        batches: how many the ranks together train on in a step.
        copies: when copies of stages are made, if any are.
    """

    ahead: int = 1
    sent: int = 0
    batches: int = 1
    copies: Copies | None = None

    def __init__(self, setting: Setting):
        self.setting = setting
        self.loss = Classification(setting.classes).loss

    def optimizer(self, part: nn.Module) -> torch.optim.Optimizer:
        return build(self.setting.optimizer)([{"params": list(part.parameters())}], stacked(part))

    @abstractmethod
    def step(self, n: int, x: Tensor, y: Tensor, ahead: int) -> None:
        """Trains on batch n."""

    def busy(self) -> float | None:
        """Share of the time in which this rank has not waited, where that is measured."""
        return None


class Autograd(Contestant):
    """Backpropagation through the uncut network; of copies each rank has one, and they know nothing of each other."""

    def __init__(self, setting: Setting, copies: int = 1):
        super().__init__(setting)
        self.batches = copies
        self.net = setting.network()
        self.adam = self.optimizer(self.net)

    def step(self, n: int, x: Tensor, y: Tensor, ahead: int) -> None:
        self.adam.zero_grad()
        self.loss(self.net(x), y).backward()
        self.adam.step()


class Ddp(Contestant):
    """Torch's DistributedDataParallel: a part of each batch for each rank of a group."""

    def __init__(self, setting: Setting, group: dist.ProcessGroup | None = None):
        super().__init__(setting)
        self.group = group
        self.net = DistributedDataParallel(setting.network(), process_group=group)
        self.adam = self.optimizer(self.net)
        self.bytes = sum(p.numel() * p.element_size() for p in self.net.parameters())

    def step(self, n: int, x: Tensor, y: Tensor, ahead: int) -> None:
        rank, ranks = dist.get_rank(self.group), dist.get_world_size(self.group)
        self.adam.zero_grad()
        self.loss(self.net(x[rank::ranks]), y[rank::ranks]).backward()
        self.adam.step()
        # What a ring sends for an all-reduce.
        self.sent += 2 * self.bytes * (ranks - 1) // ranks


class Stages(Contestant):
    """Costate's stages, a method's, by its serial execution or, a stage a process, by its pipeline."""

    def __init__(
        self, setting: Setting, method: dict[str, Any], lag: int, apart: bool = True, wire: Precision = "full"
    ):
        super().__init__(setting)
        rule = build(method)
        self.copies = rule.copies
        parts = stages(setting.cut(2, rule), setting.shape, Classification(setting.classes), rule)
        self.ahead = WINDOW if apart else 1
        played = partial(Pipeline, window=WINDOW, replicas=1, trace=False, wire=wire)
        self.pipeline = played(parts, rule, lag=lag) if apart else None
        self.execution = self.pipeline or Serial(parts, rule, lag=lag)
        self.execution.connect()
        own = parts if self.pipeline is None else [parts[self.pipeline.own]]
        self.adam = self.optimizer(nn.ModuleList(own))

    def step(self, n: int, x: Tensor, y: Tensor, ahead: int) -> None:
        self.adam.zero_grad()
        self.execution.step(n, x, y, ahead)
        self.adam.step()
        self.execution.stepped()
        if self.pipeline is not None:
            if not ahead:
                self.pipeline.drain()
            self.sent = self.pipeline.sent

    def busy(self) -> float | None:
        return None if self.pipeline is None else self.pipeline.clock.measure()["busy"]


class TorchPipeline(Contestant):
    """torch.distributed.pipelining: a synchronous schedule over micro-batches, stage k on rank k of a group."""

    def __init__(
        self, setting: Setting, schedule: Callable[..., Any], micro_batches: int, group: dist.ProcessGroup | None = None
    ):
        super().__init__(setting)
        rank, ranks = dist.get_rank(group), dist.get_world_size(group)
        block = setting.cut(ranks)[rank]
        self.adam = self.optimizer(block)
        stage = PipelineStage(block, rank, ranks, torch.device("cpu"), group=group)
        self.schedule = schedule(stage, n_microbatches=micro_batches, loss_fn=self.loss)
        self.first, self.last = rank == 0, rank == ranks - 1

    def step(self, n: int, x: Tensor, y: Tensor, ahead: int) -> None:
        self.adam.zero_grad()
        samples = (x,) if self.first else ()
        labels = {"target": y} if self.last else {}
        self.schedule.step(*samples, **labels)
        self.adam.step()


class Pace(NamedTuple):
    """Of a contestant, over all ranks: seconds a batch of the slowest, and bytes a batch that each has sent.

    Attributes:
        waited: the least share of the time in which a rank has not waited, where that is measured.
        busy: the greatest share of a processor.
    """

    seconds: float
    sent: list[float]
    waited: float | None
    busy: float


def pace(way: Contestant, seconds: float, least: int, left: Callable[[], int] | None = None) -> Pace:
    """Trains for so many seconds, and so many batches at least. Neither filling nor draining a pipeline counts.

    Copies, which are made every 215 batches, are not waited for: one has a stretch of batches to itself, from its
    making to its use, and what these take and send beyond others is shared out over the batches between copies.

    Args:
        left: bytes that have left this rank, if not those that the contestant counts.
    """
    period, stretch, warm = 1, 0, 3
    if way.copies is not None:
        period = int(way.copies.refresh)
        stretch = 3 + min(way.copies.travel, period - 1)
    # A copy is made behind the second batch of the stretch.
    drive = Drive(way, max(0, period - 2 - 2 * warm), left or (lambda: way.sent))
    drive(warm)
    dist.barrier()
    step = torch.tensor(drive(warm)[0] / warm)
    dist.broadcast(step, 0)
    copying = drive(stretch)
    lot = max(least, round(seconds / step.item()))
    lot = min(lot, period - stretch) if stretch else lot
    way.busy()
    plain = [number / lot for number in drive(lot)]
    waited = way.busy()
    drive(way.ahead, ends=True)
    took, cpu, sent = (a + max(0.0, b - stretch * a) / period for a, b in zip(plain, copying, strict=True))
    ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, (took, sent, waited, cpu / took))
    times, bytes_sent, waits, busy = zip(*ranks, strict=True)
    return Pace(max(times) / way.batches, list(bytes_sent), None if None in waits else min(waits), max(busy))


class Drive:
    """Takes a contestant from batch to batch: seconds, those of the processor, and bytes of so many of them."""

    def __init__(self, way: Contestant, start: int, left: Callable[[], int]):
        self.way, self.left = way, left
        self.batches, self.numbers = way.setting.batches(), count(start)

    def __call__(self, batches: int, ends: bool = False) -> list[float]:
        since, cpu, before = time.perf_counter(), time.process_time(), self.left()
        for i, n in enumerate(islice(self.numbers, batches), start=1):
            self.way.step(n, *self.batches[n % len(self.batches)], batches - i if ends else self.way.ahead)
        return [time.perf_counter() - since, time.process_time() - cpu, float(self.left() - before)]


def launch(ranks: int, threads: int, work: Callable[..., Any], *things: Any, networks: Sequence[int] = ()) -> Any:
    """What work(*things) returns on the first of so many ranks, all of them fresh processes with so many threads.

    Args:
        networks: a process of each rank's host, where they are on several.
    """
    results = multiprocessing.get_context("spawn").SimpleQueue()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        multiprocessing.spawn(_rank, (ranks, meeting, results, work, things, networks or [0] * ranks), nprocs=ranks)
    return results.get()


def _rank(
    rank: int, ranks: int, meeting: str, results: Any, work: Callable[..., Any], things: Any, networks: Sequence[int]
) -> None:
    if networks[rank]:
        enter(networks[rank])
    os.environ.setdefault("GLOO_SOCKET_IFNAME", Hosts.interface if networks[rank] else "lo")
    dist.init_process_group("gloo", meeting, rank=rank, world_size=ranks)
    found = work(*things)
    if rank == 0:
        results.put(found)
    dist.barrier()
    # Neither destroying a group nor leaving it to Python's end is safe in all versions of torch.
    os._exit(0)
