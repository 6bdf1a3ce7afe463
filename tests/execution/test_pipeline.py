"""One stage a process computes what one process computes with all stages: every tensor, bit for bit."""

import os
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

from composing import method, options, scheduled, words
from costate.core.interface import Learning
from costate.core.method import Method
from costate.core.stage import Stage
from costate.execution.pipeline import Pipeline
from costate.execution.serial import Serial
from played import CLASSES, SHAPE, assert_equal, batches, stages, train
from ranks import on_ranks

SETTINGS = {
    "sg unconditioned": ("method=sg", "method.conditioned=false"),
    "sg warm": ("method=sg", "method.warmup_steps=3", "method/synthesizer=mlp", "method.synthesizer.width=16"),
    "sg mixed": ("method=sg", "method.mix=0.5"),
    "coarse": ("method=coarse", "method.factor=2", "method.step=9", "method.refresh=3", "method.travel=1"),
    "coarse inputs": (
        "method=coarse",
        "method.factor=2",
        "method.step=9",
        "method.refresh=3",
        "method.travel=1",
        "method.inputs=coarse",
    ),
    "coarse, not near": (
        "method=coarse",
        "method.factor=2",
        "method.step=9",
        "method.refresh=3",
        "method.travel=1",
        "method.near=1",
    ),
    "coarse at once": ("method=coarse", "method.factor=3", "method.step=9", "method.refresh=1"),
    "signs": ("method=backprop", "method.compress=sign"),
    "sg, largest": ("method=sg", "method.compress=topk", "method.share=0.2"),
    "greedy predsim": ("method=greedy", "method.loss=predsim"),
    "delayed, shrunk": ("method=delayed", "method.shrink=0.8"),
    "delayed by two": ("method=delayed", "method.delay=2"),
    "delayed by none": ("method=delayed", "method.delay=0"),
}
"""Of methods, beside those of their files."""
NORMED = {
    "delayed, batch norm": ("method=delayed",),
    "coarse, batch norm": ("method=coarse", "method.factor=2", "method.step=9", "method.refresh=3", "method.travel=1"),
    "sg, batch norm": ("method=sg",),
}
"""What is shared of a stage is not to touch the running statistics that a pending graph refers to."""
Case = tuple[str, int]
ONLY = os.environ.get("CONTRACT")
"""The one file of conf/ that is looked at, see conftest.py."""


@cache
def rules() -> dict[str, Method]:
    found = {f"as it is: {name}": method(*words("method", name)) for name in options("method")}
    found |= {name: method(*overrides) for name, overrides in (SETTINGS | NORMED).items()}
    return {name: rule for name, rule in found.items() if ONLY in (None, name.partition(": ")[2])}


@cache
def cases() -> list[Case]:
    """All methods that train stages; where interfaces learn, as late as they may."""
    staged = {name: rule for name, rule in rules().items() if scheduled(rule)}
    learn = {name for name in staged if isinstance(parts_of(name, 2)[0].interface, Learning)}
    return [(name, lag) for name in staged for lag in ((0, 1, 2) if name in learn - NORMED.keys() else (1,))]


def parts_of(name: str, count: int) -> list[Stage]:
    return stages(count, rules()[name], *(["arch.norm=true"] if name in NORMED else []))


def on_pipeline(count: int) -> dict[Case, dict[str, Any]]:
    results = {}
    for name, lag in cases():
        parts = parts_of(name, count)
        execution = Pipeline(parts, rules()[name], lag=lag, window=2, replicas=1, trace=False)
        execution.connect()
        results[name, lag] = train(parts, execution)
    return results


@pytest.mark.members
@pytest.mark.parametrize("count", [2, *(pytest.param(K, marks=pytest.mark.thorough) for K in (3, 4))])
def test_every_rank_ends_with_what_one_process_has(count, tmp_path):
    if not cases():
        pytest.skip(f"{ONLY} is no method")
    ranks = on_ranks(count, tmp_path, partial(on_pipeline, count))
    for name, lag in cases():
        parts = parts_of(name, count)
        expected = train(parts, Serial(parts, rules()[name], lag=lag))
        for found in ranks:
            assert assert_equal(found[name, lag], expected, f"{name}, lag {lag}") > 10


def stopped_batch(window: int) -> int:
    """Rank 1 holds the first stage: asked to stop, it marks a batch, and all stop behind the last that has room."""
    rule = rules()["as it is: sg"]
    parts = stages(2, rule)
    execution = Pipeline(parts, rule, lag=1, window=window, replicas=1, trace=False)
    execution.connect()
    for n, (x, y) in enumerate(batches()):
        if execution.own == 0 and n == 3:
            execution.stop()
        execution.step(n, x, y, ahead=len(batches()) - 1 - n)
        if execution.stopping:
            execution.gather()
            return n
    return -1


def refusal() -> str:
    execution = Pipeline(
        stages(3, rules()["as it is: sg"]), rules()["as it is: sg"], lag=1, window=2, replicas=1, trace=False
    )
    with pytest.raises(ValueError, match="stages=3, but 2 ranks") as caught:
        execution.connect()
    return str(caught.value)


def test_one_stage_alone_is_refused():
    with pytest.raises(ValueError, match="choose stages=2 or more"):
        Pipeline(stages(1, rules()["as it is: sg"]), rules()["as it is: sg"], lag=1, window=2, replicas=1, trace=False)


def watched(steps: int) -> list[int]:
    """Bytes of memory that this rank holds, every hundred steps."""
    rule = rules()["as it is: none"]
    # Nothing comes back to hold a stage up: only the window keeps the first one from running away.
    parts = stages(2, rule)
    execution = Pipeline(parts, rule, lag=1, window=2, replicas=1, trace=False)
    execution.connect()
    x, y = torch.randn(512, *SHAPE), torch.randint(CLASSES, (512,))
    held = []
    for n in range(steps):
        if execution.own == 1 and n % 5 == 0:
            time.sleep(0.005)  # the last stage is a slow one
        execution.step(n, x, y, ahead=steps - 1 - n)
        for p in parts[execution.own].parameters():
            p.grad = None
        if n % 100 == 0:
            held.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    execution.gather()
    return held


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_batches(tmp_path):
    rules()
    for held in on_ranks(2, tmp_path, partial(watched, 600)):
        # A message of a batch is 64 kB: six hundred would be 38 MB.
        assert max(held[2:]) - held[2] < 8 * 2**20


RAGGED = [
    ("as it is: sg", (20, 20, 20, 7)),
    ("as it is: sg", (20, 7, 7, 3)),
    ("as it is: delayed", (20, 7, 7, 3)),
    ("as it is: petra", (20, 20, 20, 7)),
]


def ragged(sizes: tuple[int, ...], execution: Pipeline | Serial, parts: list[Stage]) -> list[dict[str, Any]]:
    """Two epochs of batches that get smaller, of which nobody is told beforehand."""
    optimizer = torch.optim.SGD([p for stage in parts for p in stage.parameters()], lr=0.1)
    for n, size in enumerate(2 * sizes):
        x, y = batches(2 * len(sizes))[n]
        optimizer.zero_grad()
        execution.step(n, x[:size], y[:size], ahead=len(sizes) - 1 - n % len(sizes))
        optimizer.step()
        if n % len(sizes) == len(sizes) - 1:
            execution.gather()
    return [stage.state_dict() for stage in parts]


def ragged_pipeline() -> dict[Any, Any]:
    found = {}
    for name, sizes in RAGGED:
        parts = parts_of(name, 3)
        execution = Pipeline(parts, rules()[name], lag=1, window=2, replicas=1, trace=False)
        execution.connect()
        found[name, sizes] = ragged(sizes, execution, parts)
    (x, y), _ = batches(2)
    execution.step(8, x[:7], y[:7], ahead=1)
    with pytest.raises(ValueError, match="batches of an epoch do not grow"):
        execution.step(9, x, y, ahead=0)
    # What is on its way ends with who sent it: no rank leaves before the others have everything.
    execution.step(9, x[:7], y[:7], ahead=0)
    execution.gather()
    return found


def test_a_last_batch_may_be_smaller(tmp_path):
    """It comes where room was made for a whole one."""
    for found in on_ranks(3, tmp_path, ragged_pipeline):
        for (name, sizes), tensors in found.items():
            parts = parts_of(name, 3)
            expected = ragged(sizes, Serial(parts, rules()[name], lag=1), parts)
            assert assert_equal(tensors, expected, f"{name}, {sizes}") >= 10


CODED = [
    (("method=sg",), "bf16"),
    (("method=sg",), "int8"),
    (SETTINGS["coarse"], "int8"),
    (("method=delayed",), "float16"),
    (("method=backprop",), "bf16"),
]


def coded_pipeline() -> tuple[list[int], str, list[tuple[Any, int]]]:
    """When it stopped, how it refuses, and of each wire tensors, and bytes that this rank has sent."""
    found = []
    for overrides, wire in CODED:
        rule = method(*overrides)
        parts = stages(2, rule)
        execution = Pipeline(parts, rule, lag=1, window=2, replicas=1, trace=False, wire=wire)
        execution.connect()
        found.append((train(parts, execution), execution.sent))
    return [stopped_batch(window) for window in (1, 2, 9)], refusal(), found


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> list[tuple[list[int], str, list[tuple[Any, int]]]]:
    return on_ranks(2, tmp_path_factory.mktemp("ranks"), coded_pipeline)


def test_all_ranks_stop_behind_the_same_batch(two_ranks):
    assert [stopped for stopped, _, _ in two_ranks] == 2 * [[3, 4, len(batches()) - 1]]


def test_another_number_of_ranks_than_stages_is_refused(two_ranks):
    assert len({refused for _, refused, _ in two_ranks}) == 1


def test_fewer_bytes_are_the_same_in_one_process_and_in_several(two_ranks):
    """And others than with all bytes."""
    ranks = [found for _, _, found in two_ranks]
    for i, (overrides, wire) in enumerate(CODED):
        rule = method(*overrides)
        for wires in ((wire, wire), ("full", wire)):
            parts = stages(2, rule)
            serial = Serial(parts, rule, lag=1, wire=wires[0])
            expected = train(parts, serial)
            for found in ranks:
                if wires[0] == wire:
                    assert assert_equal(found[i][0], expected, f"{overrides}, {wire}") > 10
                else:
                    with pytest.raises(AssertionError):
                        assert_equal(found[i][0], expected, f"{overrides}, {wire}")
    halves, bytes_ = (sum(found[i][1] for found in ranks) for i in (0, 1))
    assert bytes_ < 0.7 * halves


def test_states_that_are_rebuilt_are_sent_whole():
    rule = method("method=petra")
    with pytest.raises(ValueError, match=r"leave execution\.wire=bf16 out"):
        Serial(stages(2, rule), rule, lag=0, wire="bf16")
