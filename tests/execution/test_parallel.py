"""One worker a process comes to what one process comes to with all workers: every tensor and number, bit for bit."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from composing import method, network
from costate.core.method import Method
from costate.core.stage import Stage
from costate.core.tasks import Classification
from costate.execution.base import Execution
from costate.execution.replicas import own_rows
from costate.execution.serial import Parallel, Serial
from costate.training.module import stages as make_stages
from ranks import on_ranks

SHAPE, CLASSES, ROWS, STEPS = (8,), 3, 40, 3
CASES = {
    "lbfgs": ("method.blocks=2",),
    "adam": ("method.blocks=2", "method/solver=adam", "method.minibatch=10", "method.directions=steepest"),
    "head": ("method.blocks=3", "method.head=own"),
    "alone": ("method.blocks=3", "method.forget_me_not=false"),
}


@cache
def rule(name: str) -> Method:
    words = ("method.solver.steps=3", "method.synchronisation=3", "method.piece=16")
    return method("method=pvd", *CASES[name], *words)


def stages(name: str) -> list[Stage]:
    torch.manual_seed(0)
    net = network(SHAPE, CLASSES, "arch=verlet", "arch.depth=6", "arch.width=8", "arch.norm=true")
    made: Any = rule(name)
    return make_stages(made.cut(net, made.blocks - (made.head == "own")), SHAPE, Classification(CLASSES), made)


def batch(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(ROWS, *SHAPE, generator=generator), torch.randint(CLASSES, (ROWS,), generator=generator)


def train(
    parts: list[Stage], execution: Execution, name: str, rows: Callable[[Tensor], Tensor] = lambda whole: whole
) -> tuple[list[dict[str, Tensor]], list[dict]]:
    """Weights and statistics, and the numbers of each iteration that are no times."""
    iteration = rule(name).iteration(execution)
    optimizer = torch.optim.AdamW([p for stage in parts for p in stage.parameters()], lr=0.01)
    numbers = []
    for n in range(STEPS):
        iteration.gradient(n, *map(rows, batch(n)), ahead=STEPS - 1 - n)
        execution.average()
        iteration.advance(optimizer)
        numbers.append({key: value for key, value in iteration.report().items() if "seconds" not in key})
    return [stage.state_dict() for stage in parts], numbers


def in_parallel(names: list[str]) -> dict[str, Any]:
    found = {}
    for name in names:
        parts = stages(name)
        made: Any = rule(name)
        execution = Parallel(parts, made, workers=made.blocks)
        execution.connect()
        found[name] = train(parts, execution, name)
    return found


def same(found: Any, expected: Any) -> None:
    for part, other in zip(found[0], expected[0], strict=True):
        assert part.keys() == other.keys()
        assert all(torch.equal(part[key], other[key]) for key in part)
    assert found[1] == expected[1]


@pytest.mark.parametrize("names", [["lbfgs", "adam"], ["head", "alone"]])
def test_every_rank_ends_with_what_one_process_has(names, tmp_path):
    ranks = on_ranks(rule(names[0]).blocks, tmp_path, partial(in_parallel, names))
    for name in names:
        parts = stages(name)
        expected = train(parts, Serial(parts, rule(name), lag=0), name)
        assert len(expected[1]) == STEPS
        for found in ranks:
            same(found[name], expected)


def in_replicas() -> tuple[list[dict[str, Tensor]], list[dict]]:
    name = "lbfgs"
    parts = [stage.double() for stage in stages(name)]
    for stage in parts:
        stage.block.field.norms = nn.ModuleList(nn.Identity() for _ in stage.block.field.norms)
    torch.set_default_dtype(torch.float64)
    try:
        return train(parts, Serial(parts, rule(name), lag=0), name, own_rows)
    finally:
        torch.set_default_dtype(torch.float32)


def test_replicas_that_share_out_the_rows_do_what_one_process_does(tmp_path):
    expected = in_replicas()
    for found in on_ranks(2, tmp_path, in_replicas):
        for part, other in zip(found[0], expected[0], strict=True):
            torch.testing.assert_close(part, other, rtol=0, atol=1e-8)
        assert found[1][-1] == pytest.approx(expected[1][-1], rel=1e-5, abs=1e-8)


def test_what_cannot_be_is_refused():
    parts, made = stages("lbfgs"), rule("lbfgs")
    for arguments, workers, sentence in (
        ((parts, method("method=backprop")), 2, "runs the workers of method=pvd"),
        ((parts, made), 3, "workers=3 and method.blocks=2"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Parallel(*arguments, workers=workers)
    with pytest.raises(ValueError, match="workers=2, but ranks=1"):
        Parallel(parts, made, workers=2).connect()
