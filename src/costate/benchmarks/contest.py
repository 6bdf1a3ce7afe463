"""What the pipeline benchmark compares: ways to train one network on one or two processes, each a step to be timed.

All take the same network, batches and optimizer; none has a trainer or a loader around it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.nn.parallel import DistributedDataParallel

from costate.architectures import Network
from costate.architectures.block import Block
from costate.core.tasks import Classification
from costate.execution.pipeline import Pipeline
from costate.execution.serial import Serial
from costate.methods import Method
from costate.training.balance import by_work
from costate.training.module import stages


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
        return instantiate(self.arch, self.shape, self.classes, _convert_="all")

    def cut(self, stages: int, rule: Method | None = None) -> list[Block]:
        """The network, for whoever puts a stage on each rank; where stages ask copies, by the work of both."""
        network, balance = self.network(), self.balance if stages > 1 else None
        if rule is not None and rule.copies is not None:
            balance = by_work(network, rule, stages, self.shape, Classification(self.classes))
        return network.cut(stages, balance)

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """A few, to be taken in turn."""
        generator = torch.Generator().manual_seed(1)
        return [
            (
                torch.randn(self.batch, *self.shape, generator=generator),
                torch.randint(self.classes, (self.batch,), generator=generator),
            )
            for _ in range(4)
        ]


class Contestant(ABC):
    """One way to train.

    Attributes:
        sent: bytes that this rank has sent to the other.
        batches: how many the ranks together train on in a step.
    """

    sent: int = 0
    batches: int = 1

    def __init__(self, setting: Setting):
        self.setting = setting
        self.loss = Classification(setting.classes).loss

    def optimizer(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        return instantiate(self.setting.optimizer, _convert_="all")([{"params": list(parameters)}])

    @abstractmethod
    def step(self, n: int, x: Tensor, y: Tensor, more: bool) -> None:
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
        self.adam = self.optimizer(list(self.net.parameters()))

    def step(self, n: int, x: Tensor, y: Tensor, more: bool) -> None:
        self.adam.zero_grad()
        self.loss(self.net(x), y).backward()
        self.adam.step()


class Ddp(Contestant):
    """Torch's DistributedDataParallel: a part of each batch for each rank of a group."""

    def __init__(self, setting: Setting, group: dist.ProcessGroup | None = None):
        super().__init__(setting)
        self.group = group
        self.net = DistributedDataParallel(setting.network(), process_group=group)
        self.adam = self.optimizer(list(self.net.parameters()))
        self.bytes = sum(p.numel() * p.element_size() for p in self.net.parameters())

    def step(self, n: int, x: Tensor, y: Tensor, more: bool) -> None:
        rank, ranks = dist.get_rank(self.group), dist.get_world_size(self.group)
        self.adam.zero_grad()
        self.loss(self.net(x[rank::ranks]), y[rank::ranks]).backward()
        self.adam.step()
        # What a ring sends for an all-reduce.
        self.sent += 2 * self.bytes * (ranks - 1) // ranks


class SerialStages(Contestant):
    """Costate's serial execution of a method."""

    def __init__(self, setting: Setting, method: dict[str, Any], lag: int):
        super().__init__(setting)
        rule = instantiate(method, _convert_="all")
        parts = stages(setting.cut(2, rule), setting.shape, Classification(setting.classes), rule)
        self.execution = Serial(parts, rule, lag=lag)
        self.adam = self.optimizer([p for part in parts for p in part.parameters()])

    def step(self, n: int, x: Tensor, y: Tensor, more: bool) -> None:
        self.adam.zero_grad()
        self.execution.step(n, x, y, more)
        self.adam.step()
        self.execution.stepped()


class PipelineStages(Contestant):
    """Costate's pipeline execution of a method."""

    def __init__(self, setting: Setting, method: dict[str, Any], lag: int):
        super().__init__(setting)
        rule = instantiate(method, _convert_="all")
        parts = stages(setting.cut(2, rule), setting.shape, Classification(setting.classes), rule)
        self.execution = Pipeline(parts, rule, lag=lag, window=2, replicas=1, trace=False)
        self.execution.connect()
        self.adam = self.optimizer(list(parts[self.execution.own].parameters()))

    def step(self, n: int, x: Tensor, y: Tensor, more: bool) -> None:
        self.adam.zero_grad()
        self.execution.step(n, x, y, more)
        self.adam.step()
        self.execution.stepped()
        if not more:
            self.execution.drain()
        self.sent = self.execution.sent

    def busy(self) -> float:
        return self.execution.traffic.measure()["busy"]


class TorchPipeline(Contestant):
    """torch.distributed.pipelining: a synchronous schedule over micro-batches, stage k on rank k of a group."""

    def __init__(
        self,
        setting: Setting,
        schedule: Callable[..., Any],
        micro_batches: int,
        group: dist.ProcessGroup | None = None,
    ):
        super().__init__(setting)
        rank, ranks = dist.get_rank(group), dist.get_world_size(group)
        block = setting.cut(ranks)[rank]
        self.adam = self.optimizer(list(block.parameters()))
        stage = PipelineStage(block, rank, ranks, torch.device("cpu"), group=group)
        self.schedule = schedule(stage, n_microbatches=micro_batches, loss_fn=self.loss)
        self.first, self.last = rank == 0, rank == ranks - 1

    def step(self, n: int, x: Tensor, y: Tensor, more: bool) -> None:
        self.adam.zero_grad()
        samples = (x,) if self.first else ()
        labels = {"target": y} if self.last else {}
        self.schedule.step(*samples, **labels)
        self.adam.step()


MICRO_BATCHES = 2, 4, 8
COPIES = "two processes with a network each"
"""No way to train one network, but what the machine's two cores can give at most."""


def alone() -> dict[str, Callable[[Setting], Contestant]]:
    """Those that run in one process."""
    return {
        "serial backprop": Autograd,
        "serial sg": lambda setting: SerialStages(setting, setting.method, lag=1),
    }


def together(methods: dict[str, dict[str, Any]]) -> dict[str, Callable[[Setting], Contestant]]:
    """Those that run in two.

    Args:
        methods: nodes of the configuration of those that are compared with the setting's own.
    """
    torch_schedules = {
        f"torch {name}, {m} micro-batches": lambda setting, kind=kind, m=m: TorchPipeline(setting, kind, m)
        for name, kind in (("1F1B", Schedule1F1B), ("GPipe", ScheduleGPipe))
        for m in MICRO_BATCHES
    }
    return {
        "pipeline sg": lambda setting: PipelineStages(setting, setting.method, lag=1),
        **{f"pipeline {name}": partial(PipelineStages, method=method, lag=0) for name, method in methods.items()},
        "torch DDP": Ddp,
        COPIES: lambda setting: Autograd(setting, copies=2),
        **torch_schedules,
    }
