"""Several ranks train what one process trains on the joint batch: every method, and the program as a whole."""

import csv
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from composing import method, network, options
from costate.core.tasks import Classification
from costate.execution.replicas import join_batch_norms, own_rows
from costate.execution.serial import Serial
from costate.methods import Method
from costate.training.module import stages
from ranks import on_ranks

ROOT = Path(__file__).parents[2]
SHAPE, CLASSES, BATCH, STEPS = (8,), 3, 12, 4
MLP = ("method=sg", "method/synthesizer=mlp", "method.synthesizer.width=16")
METHODS = {
    **{name: (f"method={name}",) for name in options("method")},
    "sg with batch norm": MLP,
    "sg warm": (*MLP, "method.warmup_steps=2"),
    "sg mixed": ("method=sg", "method.mix=0.5"),
    "greedy predsim": ("method=greedy", "method.loss=predsim"),
}
CASES = [(name, lag) for name in METHODS for lag in (0, 1)]


@cache
def rules() -> dict[str, Method]:
    return {name: method(*overrides) for name, overrides in METHODS.items()}


def trained(name: str, lag: int) -> tuple[list[dict[str, Tensor]], dict]:
    """The stages, and what is pending, after a few steps on this process's rows: all of them, if it is alone."""
    torch.manual_seed(0)
    net = network(SHAPE, CLASSES, "arch=verlet", "arch.depth=3", "arch.width=16", "arch.norm=true")
    rule = rules()[name]
    parts = [stage.double() for stage in stages(net.cut(3), SHAPE, Classification(CLASSES), rule)]
    for stage in parts:
        join_batch_norms(stage)
    serial = Serial(parts, rule, lag=lag)
    optimizer = torch.optim.SGD([p for stage in parts for p in stage.parameters()], lr=0.1, momentum=0.9)
    for n in range(STEPS):
        if n == STEPS - 1:
            # As if resumed from a checkpoint, which has passed through another number of ranks.
            pending = serial.state_dict()
            serial = Serial(parts, rule, lag=lag)
            serial.load_state_dict(pending, x.device)
        torch.manual_seed(n)
        x, y = torch.randn(BATCH, *SHAPE).double(), torch.randint(CLASSES, (BATCH,))
        optimizer.zero_grad()
        serial.step(n, own_rows(x), own_rows(y))
        serial.average()
        optimizer.step()
    return [stage.state_dict() for stage in parts], serial.state_dict()


def all_trained() -> dict[tuple[str, int], tuple[list[dict[str, Tensor]], dict]]:
    return {case: trained(*case) for case in CASES}


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    rules()
    return on_ranks(2, tmp_path_factory.mktemp("ranks"), all_trained)


@pytest.mark.parametrize(("name", "lag"), CASES)
def test_two_ranks_equal_one_process_with_the_joint_batch(on_two_ranks: list[dict], name: str, lag: int) -> None:
    expected = trained(name, lag)
    for results in on_two_ranks:
        torch.testing.assert_close(results[name, lag], expected, rtol=0, atol=1e-11)


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
