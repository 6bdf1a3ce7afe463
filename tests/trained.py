"""Small networks of every kind, cut in stages and trained for a few batches in one process."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from composing import network
from costate.execution.serial import Serial
from costate.methods import Method
from costate.stage import Stage
from costate.tasks import Classification
from costate.training.module import stages as make_stages

STEPS, BATCH, SHAPE, CLASSES = 4, 16, (1, 8, 8), 3
TASK = Classification(CLASSES)
NETWORKS = {
    "mlp": ("arch=mlp", "arch.widths=[12,10]"),
    "cnn": ("arch=cnn", "arch.filters=[3,4]"),
    "verlet": ("arch=verlet", "arch.depth=6", "arch.width=8", "arch.smoothness=0.01"),
    "resnet_norm": ("arch=resnet", "arch.depth=6", "arch.width=8", "arch.norm=true"),
    "antisymmetric_conv": ("arch=antisymmetric", "arch/form=conv", "arch.depth=3", "arch.width=4"),
    "leapfrog_conv": ("arch=leapfrog", "arch/form=conv", "arch.depth=3", "arch.width=4", "arch.smoothness=0.1"),
}


def blocks(name: str, count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return network(SHAPE, CLASSES, *NETWORKS[name]).cut(count)


def batches(steps: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(BATCH, *SHAPE, generator=generator), torch.randint(CLASSES, (BATCH,), generator=generator))
        for _ in range(steps)
    ]


def step_all(parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


def train(
    parts: list[nn.Module], rule: Method, steps: int = STEPS, frozen: bool = False, lag: int = 0
) -> tuple[list[Stage], list[Tensor]]:
    """Stages and losses after `steps` batches; `frozen` synthesizers see no optimizer."""
    stages = make_stages(copy.deepcopy(parts), SHAPE, TASK, rule)
    serial, losses = Serial(stages, rule, lag=lag), []
    optimizer = step_all([p for stage in stages for p in (stage.block if frozen else stage).parameters()])
    for n, (x, y) in enumerate(batches(steps)):
        optimizer.zero_grad()
        serial.step(n, x, y)
        optimizer.step()
        serial.stepped()
        losses.append(stages[-1].interface.value)
    return stages, losses


def assert_same(a: Sequence[nn.Module], b: Sequence[nn.Module]) -> None:
    compared = 0
    for part, other in zip(a, b, strict=True):
        ours, theirs = part.state_dict(), other.state_dict()
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), key
            compared += 1
    assert compared > 0


def bodies(stages: list[Stage]) -> list[nn.Module]:
    return [stage.block for stage in stages]
