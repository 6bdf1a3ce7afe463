"""Replicas of a pipeline compute what one process computes on the joint batch."""

from functools import cache
from typing import Any

import pytest
import torch

from composing import method, network
from costate.core.tasks import Classification
from costate.execution.base import Execution
from costate.execution.pipeline import Grid, Pipeline
from costate.execution.serial import Serial
from costate.methods import Method
from costate.training.module import stages as make_stages
from ranks import on_ranks

SHAPE, CLASSES, BATCH, STEPS = (8,), 3, 12, 5
METHODS = {
    "backprop": ("method=backprop",),
    "none": ("method=none",),
    "sg": ("method=sg",),
    "coarse": ("method=coarse", "method.factor=1", "method.refresh=2"),
    "feedback": ("method=feedback",),
    "critic": ("method=critic", "method.width=16"),
    "signs": ("method=backprop", "method.compress=sign"),
    "sg with batch norm": ("method=sg", "method/synthesizer=mlp", "method.synthesizer.width=16"),
}
CASES = [(name, lag) for name in METHODS for lag in (0, 1)]


@cache
def rules() -> dict[str, Method]:
    return {name: method(*overrides) for name, overrides in METHODS.items()}


def trained(name: str, lag: int, pipeline: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    rule, overrides = rules()[name], ("arch=verlet", "arch.depth=4", "arch.width=16", "arch.norm=true")
    parts = make_stages(network(SHAPE, CLASSES, *overrides).cut(2), SHAPE, Classification(CLASSES), rule)
    parts = [stage.double() for stage in parts]

    playing: Execution = Serial(parts, rule, lag=lag)
    if pipeline:
        playing = Pipeline(parts, rule, lag=lag, window=2, replicas=2, trace=False)
    playing.connect()
    replica, replicas = playing.share if isinstance(playing, Pipeline) else (0, 1)
    optimizer = torch.optim.SGD([p for stage in parts for p in stage.parameters()], lr=0.1, momentum=0.9)
    for n in range(STEPS):
        torch.manual_seed(n)
        x, y = torch.randn(BATCH, *SHAPE).double(), torch.randint(CLASSES, (BATCH,))
        optimizer.zero_grad()
        playing.step(n, x[replica::replicas], y[replica::replicas], more=n < STEPS - 1)
        playing.average()
        optimizer.step()
        playing.stepped()
    playing.gather()
    return {"stages": [stage.state_dict() for stage in parts], "execution": playing.state_dict()}


def all_trained() -> dict[tuple[str, int], dict[str, Any]]:
    return {case: trained(*case, pipeline=True) for case in CASES}


@pytest.fixture(scope="module")
def on_four_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    rules()
    return on_ranks(4, tmp_path_factory.mktemp("ranks"), all_trained)


@pytest.mark.parametrize(("name", "lag"), CASES)
def test_two_by_two_ranks_equal_one_process_with_the_joint_batch(on_four_ranks: list[dict], name: str, lag: int):
    expected = trained(name, lag, pipeline=False)
    for results in on_four_ranks:
        torch.testing.assert_close(results[name, lag], expected, rtol=0, atol=1e-11)


def places() -> tuple[int, int, list[int]]:
    grid = Grid(2, 3, "cpu")
    return grid.replica, grid.stage, [grid.rank_of(k) for k in range(3)]


def test_ranks_count_replicas_first_and_stages_from_the_last(tmp_path):
    assert on_ranks(6, tmp_path, places) == [
        (0, 2, [2, 1, 0]),
        (0, 1, [2, 1, 0]),
        (0, 0, [2, 1, 0]),
        (1, 2, [5, 4, 3]),
        (1, 1, [5, 4, 3]),
        (1, 0, [5, 4, 3]),
    ]
