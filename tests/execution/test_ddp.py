"""Several ranks train what one process trains on the joint batch: every method, replicas of a pipeline, the program."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from composing import method, network, options
from costate.callbacks.gradients import GradientCosine
from costate.core.method import Method, OptimizerStep
from costate.core.stage import Stage
from costate.core.tasks import Classification
from costate.execution.base import Execution
from costate.execution.pipeline import Pipeline
from costate.execution.replicas import join_batch_norms, own_rows
from costate.execution.serial import Serial
from costate.training.module import stages
from ranks import on_ranks
from running import command

ROOT = Path(__file__).parents[2]
Case = tuple[str, int]
SHAPE, CLASSES, BATCH, STEPS = (8,), 3, 12, 4
MLP = ("method=sg", "method/synthesizer=mlp", "method.synthesizer.width=16")
METHODS = {
    **{name: (f"method={name}",) for name in options("method")},
    "sg with batch norm": MLP,
    "sg warm": (*MLP, "method.warmup_steps=2"),
    "sg mixed": ("method=sg", "method.mix=0.5"),
    "greedy predsim": ("method=greedy", "method.loss=predsim"),
    # Measured by the variance of each rank's own rows, copies became others than one process makes.
    "coarse, tuned": ("method=coarse", "method.factor=2", "method.step=9", "method.refresh=2", "method.tune=1"),
}
PIPELINES = {
    **{name: (f"method={name}",) for name in ("backprop", "none", "sg", "feedback")},
    "coarse": ("method=coarse", "method.factor=1", "method.refresh=2"),
    "critic": ("method=critic", "method.width=16"),
    "signs": ("method=backprop", "method.compress=sign"),
    "sg with batch norm": MLP,
}
LEARN = {"critic", "sg", "sg with batch norm", "sg warm", "sg mixed"}
"""Lag is theirs alone."""


def cases(methods: Iterable[str]) -> list[Case]:
    return [(name, lag) for name in methods for lag in ((0, 1) if name in LEARN else (0,))]


@cache
def rule(*overrides: str) -> Method:
    return method(*overrides)


def made(depth: int, rule: Method) -> list[Stage]:
    torch.manual_seed(0)
    net = network(SHAPE, CLASSES, "arch=verlet", f"arch.depth={2 * depth}", "arch.width=16", "arch.norm=true")
    return [stage.double() for stage in stages(net.cut(depth), SHAPE, Classification(CLASSES), rule)]


def batch(n: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(n)
    return torch.randn(BATCH, *SHAPE).double(), torch.randint(CLASSES, (BATCH,))


def trained(name: str, lag: int) -> tuple[list[dict[str, Tensor]], dict]:
    """The stages, and what is pending, after a few steps on this process's rows: all of them, if it is alone."""
    played = rule(*METHODS[name])
    parts = made(3, played)
    for stage in parts:
        join_batch_norms(stage)
    serial = Serial(parts, played, lag=lag)
    optimizer = torch.optim.SGD([p for stage in parts for p in stage.parameters()], lr=0.1, momentum=0.9)
    for n in range(STEPS):
        if n == STEPS - 1:
            # As if resumed from a checkpoint, which has passed through another number of ranks.
            pending = serial.state_dict()
            serial = Serial(parts, played, lag=lag)
            serial.load_state_dict(pending, torch.device("cpu"))
        x, y = batch(n)
        optimizer.zero_grad()
        serial.step(n, own_rows(x), own_rows(y))
        serial.average()
        optimizer.step()
    return [stage.state_dict() for stage in parts], serial.state_dict()


def cosines(pipeline: bool) -> dict[str, Tensor]:
    """What the callback measures of a batch, of which this process has some rows, or all if it is alone."""
    played = rule("method=feedback")
    parts = made(2, played)
    playing: Execution = Serial(parts, played, lag=0)
    if pipeline:
        playing = Pipeline(parts, played, lag=0, window=2, replicas=2, trace=False)
    else:
        for stage in parts:
            join_batch_norms(stage)
    playing.connect()
    replica, replicas = playing.share
    rows = [Y[replica::replicas] if pipeline else own_rows(Y) for Y in batch(0)]
    playing.step(0, *rows, ahead=0)
    playing.average()
    callback, step = GradientCosine(every=1), OptimizerStep(playing)
    callback.batches = {0: rows}
    return callback.measure(SimpleNamespace(execution=playing, iteration=step, stages=parts, task=playing.task))


def all_trained() -> dict[Any, Any]:
    return {"cosines": cosines(pipeline=False)} | {case: trained(*case) for case in cases(METHODS)}


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    for overrides in METHODS.values():
        rule(*overrides)
    return on_ranks(2, tmp_path_factory.mktemp("ranks"), all_trained)


@pytest.mark.parametrize(("name", "lag"), cases(METHODS))
def test_two_ranks_equal_one_process_with_the_joint_batch(on_two_ranks: list[dict], name: str, lag: int) -> None:
    expected = trained(name, lag)
    for results in on_two_ranks:
        torch.testing.assert_close(results[name, lag], expected, rtol=0, atol=1e-11)


def piped(name: str, lag: int, pipeline: bool) -> dict[str, Any]:
    played = rule(*PIPELINES[name])
    parts = made(2, played)
    playing: Execution = Serial(parts, played, lag=lag)
    if pipeline:
        playing = Pipeline(parts, played, lag=lag, window=2, replicas=2, trace=False)
    playing.connect()
    replica, replicas = playing.share
    optimizer = torch.optim.SGD([p for stage in parts for p in stage.parameters()], lr=0.1, momentum=0.9)
    for n in range(STEPS):
        x, y = batch(n)
        optimizer.zero_grad()
        playing.step(n, x[replica::replicas], y[replica::replicas], ahead=STEPS - 1 - n)
        playing.average()
        optimizer.step()
        playing.stepped()
    playing.gather()
    return {"stages": [stage.state_dict() for stage in parts], "execution": playing.state_dict()}


def all_piped() -> dict[Any, Any]:
    played = rule("method=none")
    playing = Pipeline(made(2, played), played, lag=1, window=2, replicas=2, trace=False)
    playing.connect()
    place = playing.share[0], playing.own, [playing.rank_of(k) for k in range(2)]
    found = {"place": place, "cosines": cosines(pipeline=True)}
    return found | {case: piped(*case, pipeline=True) for case in cases(PIPELINES)}


@pytest.fixture(scope="module")
def on_four_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    for overrides in PIPELINES.values():
        rule(*overrides)
    return on_ranks(4, tmp_path_factory.mktemp("ranks"), all_piped)


@pytest.mark.parametrize(("name", "lag"), cases(PIPELINES))
def test_two_by_two_ranks_equal_one_process_with_the_joint_batch(on_four_ranks: list[dict], name: str, lag: int):
    expected = piped(name, lag, pipeline=False)
    for results in on_four_ranks:
        torch.testing.assert_close(results[name, lag], expected, rtol=0, atol=1e-11)


def test_ranks_count_replicas_first_and_stages_from_the_last(on_four_ranks: list[dict]):
    places = [results["place"] for results in on_four_ranks]
    assert places == [(0, 1, [1, 0]), (0, 0, [1, 0]), (1, 1, [3, 2]), (1, 0, [3, 2])]


def test_replicas_measure_the_cosine_of_one_process(on_two_ranks: list[dict], on_four_ranks: list[dict]):
    """The gradient that is used was the mean over the replicas, and the true one that of a rank's own rows:
    backpropagation had a cosine of 0.68. With batch norm in a pipeline there was an error in place of a number.
    """
    expected = cosines(pipeline=False)
    assert 0.1 < abs(expected["stage/0/gradient_cosine"]) < 0.9
    together = [results["cosines"] for results in on_two_ranks]
    # Each rank of a pipeline measures its own stage.
    together += [a["cosines"] | b["cosines"] for a, b in (on_four_ranks[:2], on_four_ranks[2:])]
    for found in together:
        assert {name: found[name].item() for name in expected} == pytest.approx(
            {name: value.item() for name, value in expected.items()}, abs=1e-12
        )


@pytest.mark.thorough
def test_a_sweep_trains_the_same_on_a_cpu_and_on_two_ranks(tmp_path: Path) -> None:
    # Not Adam, which divides small gradients by themselves and so makes much of their last digits.
    settings = "optimizer=sgd arch.depth=4 arch.norm=true method/synthesizer=mlp epochs=1 trainer.train_batches=4"
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "-m",
        "trainer=cpu,ddp",
        *settings.split(),
        f"hydra.sweep.dir={tmp_path}",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    states = [torch.load(tmp_path / job / "checkpoints" / "last.ckpt", weights_only=True) for job in "01"]
    alone, joint = (state["state_dict"] for state in states)
    assert alone.keys() == joint.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(joint[name], tensor, rtol=1e-5, atol=1e-5)
    with (tmp_path / "summary.csv").open() as file:
        cpu, ddp = csv.DictReader(file)
    assert (cpu["trainer"], ddp["trainer"]) == ("cpu", "ddp")
    assert float(cpu["test/accuracy"]) == float(ddp["test/accuracy"])
    assert not (tmp_path / "1" / "rank-1.log").exists()


def test_sequences_grow_alike_on_all_ranks(tmp_path: Path) -> None:
    """Ranks that each went by their own rows took sequences of different lengths."""
    words = (
        "arch=rnn arch.width=8 data=copy data.batches=30 data.batch_size=8 data.validation=4 data.longest=8 span=4 "
        "method=none epochs=1 callbacks.curriculum.threshold=1.05 optimizer=sgd optimizer.lr=0.1 annealing=constant"
    )
    states = {}
    for trainer in ("cpu", "ddp"):
        place = tmp_path / trainer
        more = (f"trainer={trainer}", "trainer.accelerator=cpu", f"hydra.run.dir={place}")
        done = command(*words.split(), *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        states[trainer] = torch.load(place / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in states["cpu"].items():
        torch.testing.assert_close(states["ddp"][name], tensor, rtol=1e-4, atol=1e-5)
