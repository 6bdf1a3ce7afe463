"""A small network that an execution trains for a few batches, and everything that this leaves behind."""

from typing import Any

import torch
from torch import Tensor

from composing import network
from costate.core.method import Method
from costate.core.stage import Stage
from costate.core.tasks import Classification
from costate.execution.base import Execution
from costate.training.module import stages as make_stages

SHAPE, CLASSES, BATCH, STEPS, PAUSE = (8,), 3, 20, 9, 4


def stages(count: int, rule: Method, *words: str) -> list[Stage]:
    torch.manual_seed(0)
    net = network(SHAPE, CLASSES, "arch=verlet", "arch.depth=8", "arch.width=16", "arch.smoothness=0.01", *words)
    return make_stages(net.cut(count), SHAPE, Classification(CLASSES), rule)


def batches(steps: int = STEPS, rows: int = BATCH, shape: tuple[int, ...] = SHAPE) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(rows, *shape, generator=generator), torch.randint(CLASSES, (rows,), generator=generator))
        for _ in range(steps)
    ]


def train(parts: list[Stage], execution: Execution) -> dict[str, Any]:
    """Everything that a run leaves behind, after a pause in which all processes hold the whole network."""
    optimizer = torch.optim.AdamW([p for stage in parts for p in stage.parameters()], lr=0.01, fused=True)
    for n, (x, y) in enumerate(batches()):
        optimizer.zero_grad()
        execution.step(n, x, y, ahead=(PAUSE if n <= PAUSE else STEPS - 1) - n)
        execution.average()
        optimizer.step()
        execution.stepped()
        if n in (PAUSE, STEPS - 1):
            execution.gather()
            execution.gather_optimizer(optimizer)
    return {
        "stages": [stage.state_dict() for stage in parts],
        "optimizer": optimizer.state_dict(),
        "execution": execution.state_dict(),
    }


def assert_equal(found: Any, expected: Any, path: str = "") -> int:
    """Tensor by tensor through nested dictionaries and lists; the number of tensors."""
    if isinstance(expected, Tensor):
        assert torch.equal(found, expected), path
        return 1
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        return sum(assert_equal(found[key], value, f"{path}/{key}") for key, value in expected.items())
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected), path
        return sum(assert_equal(a, b, f"{path}/{i}") for i, (a, b) in enumerate(zip(found, expected, strict=True)))
    assert found == expected, path
    return 0
