"""Small networks of every kind, cut in stages and trained for a few batches in one process."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import played
from composing import network
from costate.core.method import Method
from costate.core.stage import Stage
from costate.core.tasks import Classification
from costate.execution.serial import Serial
from costate.training.module import stages as make_stages
from played import CLASSES
from small import PRODUCTS, STABLE

STEPS, BATCH, SHAPE = 4, 16, (1, 8, 8)
TASK = Classification(CLASSES)
SIZES = {"dense": ("arch.depth=6", "arch.width=8", "arch.smoothness=0.01")}
"""Of stable networks; those of other forms have batch norm."""
OTHER_SIZES = ("arch.depth=3", "arch.width=4", "arch.norm=true")


def networks() -> dict[str, list[str]]:
    """Every product of conf/, small: verlet, verlet_conv, mlp and their like."""
    found = {}
    for product in PRODUCTS:
        arch, *form = (word.partition("=")[2] for word in product.split()[:2])
        if arch in STABLE:
            name = arch if form == ["dense"] else f"{arch}_{form[0]}"
            found[name] = [*product.split(), *SIZES.get(form[0], OTHER_SIZES)]
        else:
            found[arch] = product.split()
    return found


NETWORKS = networks()


def blocks(name: str, count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return network(SHAPE, CLASSES, *NETWORKS[name]).cut(count)


def batches(steps: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    return played.batches(steps, BATCH, SHAPE)


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
    ours, theirs = ([part.state_dict() for part in parts] for parts in (a, b))
    assert played.assert_equal(ours, theirs) > 0


def bodies(stages: list[Stage]) -> list[nn.Module]:
    return [stage.block for stage in stages]
