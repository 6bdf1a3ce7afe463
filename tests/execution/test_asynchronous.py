"""Asynchronous roles: without slack they end where a pipeline ends, bit for bit; with slack within bounds."""

import time
from functools import cache
from typing import Any

import pytest
import torch
import torch.distributed as dist

from composing import method
from costate.core.method import Method
from costate.core.stage import Stage
from costate.execution.asynchronous import Asynchronous
from costate.execution.asynchronous.lines import Roles, choose
from costate.execution.pipeline import Pipeline
from costate.execution.serial import Serial
from played import assert_equal, batches, stages, train
from ranks import on_ranks

HALF = "sg in bfloat16"
METHODS = {
    "sg": ("method=sg",),
    "sg with batch norm": ("method=sg", "method/synthesizer=mlp", "method.synthesizer.width=16"),
    HALF: ("method=sg",),
}
CASES = [("sg", 0), ("sg", 1), ("sg with batch norm", 2), (HALF, 1)]
RANKS = 3


@cache
def rules() -> dict[str, Method]:
    return {name: method(*overrides) for name, overrides in METHODS.items()}


def ended(name: str, parts: list[Stage], execution: Any) -> dict[str, Any]:
    """What training comes to; in bfloat16 a thread of its own once answered in float32, as autocast is a thread's."""
    # A step at a time, as the trainer does: what is cast of weights is kept as long.
    execution.step = torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == HALF)(execution.step)
    return train(parts, execution)


def asynchronous(parts: list[Stage], rule: Method, **others: Any) -> Asynchronous:
    settings: dict[str, Any] = {"lag": 1, "max_staleness": 4, "queue": 8, "replay": 4, "oracle": "dedicated"}
    fixed: dict[str, Any] = {"interface": None, "trace": False}
    return Asynchronous(parts, rule, **(settings | others), **fixed)


def without_slack(count: int, oracle: str) -> dict[Any, dict[str, Any]]:
    results = {}
    for name, lag in CASES:
        parts = stages(count, rules()[name])
        execution = asynchronous(parts, rules()[name], lag=lag, max_staleness=0, oracle=oracle)
        execution.connect()
        results[name, lag] = ended(name, parts, execution)
        execution.disconnect()
        assert execution.account()["messages_lost"] == 0
    return results


def as_a_pipeline() -> dict[Any, dict[str, Any]]:
    results = {}
    for name, lag in CASES:
        parts = stages(RANKS, rules()[name])
        execution = Pipeline(parts, rules()[name], lag=lag, window=2, replicas=1, trace=False)
        execution.connect()
        results[name, lag] = ended(name, parts, execution)
    return results


def with_slack() -> dict[str, float]:
    """The output half is a slow one, and its queue short."""
    parts = stages(3, rules()["sg"])
    execution = asynchronous(parts, rules()["sg"], queue=2, max_staleness=6, oracle="colocated")
    execution.connect()
    optimizer = torch.optim.SGD([p for stage in parts for p in stage.parameters()], lr=0.01)
    for n, (x, y) in enumerate(batches(60)):
        if dist.get_rank() == 0 and n % 7 == 0:
            time.sleep(0.01)
        optimizer.zero_grad()
        execution.step(n, x, y, ahead=1)
        execution.average()
        optimizer.step()
        execution.stepped()
    execution.gather()
    execution.disconnect()
    return execution.account()


def stopped() -> int:
    """Rank 0 is asked; the roles are at different updates."""
    execution = asynchronous(stages(2, rules()["sg"]), rules()["sg"])
    execution.connect()
    x, y = batches(1)[0]
    for n in range(1000):
        if dist.get_rank() == 0 and n == 20:
            execution.stop()
        execution.step(n, x, y, ahead=1)
        execution.average()
        execution.stepped()
        if execution.stopping:
            execution.gather()
            execution.disconnect()
            return n
    return -1


def everything() -> dict[str, Any]:
    """On three ranks, one thing after the other: to start them takes longer than all of it."""
    return {
        "dedicated": without_slack(2, "dedicated"),
        "colocated": without_slack(3, "colocated"),
        "pipeline": as_a_pipeline(),
        "slack": with_slack(),
        "stopped": stopped(),
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[str, Any]]:
    rules()
    return on_ranks(RANKS, tmp_path_factory.mktemp("ranks"), everything)


@pytest.mark.parametrize(("count", "oracle"), [(2, "dedicated"), (3, "colocated")])
def test_without_slack_every_rank_ends_with_what_one_process_has(ranks, count, oracle):
    for name, lag in CASES:
        parts = stages(count, rules()[name])
        expected = ended(name, parts, Serial(parts, rules()[name], lag=lag))
        for found in ranks:
            assert assert_equal(found[oracle][name, lag], expected, f"{name}, lag {lag}") > 10


@pytest.mark.parametrize(("name", "lag"), CASES)
def test_without_slack_every_rank_ends_with_what_a_pipeline_has(ranks, name, lag):
    for found in ranks:
        assert assert_equal(found["colocated"][name, lag], found["pipeline"][name, lag]) > 10


def test_all_roles_stop_behind_the_same_update(ranks):
    ends = {found["stopped"] for found in ranks}
    assert len(ends) == 1
    assert 20 <= ends.pop() < 60


def test_what_is_sent_arrives_and_what_is_dropped_is_counted(ranks):
    books = ranks[0]["slack"]
    assert all(found["slack"] == books for found in ranks), "all ranks have the same books"
    assert books["messages_lost"] == 0
    assert books["messages_sent"] == books["messages_received"] > 60
    assert books["stage/2/dropped"] > 0, "its queue is short and it is slow"


def test_staleness_is_measured_and_bounded(ranks):
    books = ranks[0]["slack"]
    most = {name: value for name, value in books.items() if name.endswith("staleness_most")}
    assert len(most) == 6, "stages 1 and 2, answers to 0 and 1, two boundaries of the oracle"
    assert 0 < max(most.values()) <= 1 + 6


@pytest.mark.parametrize(
    ("overrides", "settings", "sentence"),
    [
        ("method=backprop", {}, "choose method=sg"),
        ("method=none", {}, "choose method=sg"),
        ("method=critic", {}, "choose method=sg"),
        ("method=sg method.compress=sign", {}, "leave method.compress out"),
        ("method=sg method.compress=topk method.share=0.1", {}, "leave method.compress out"),
        ("method=sg method.mix=0.5", {}, "choose method.warmup_steps=0 and method.mix=0"),
        ("method=sg method.warmup_steps=3", {}, "choose method.warmup_steps=0 and method.mix=0"),
        ("method=sg", {"max_staleness": 0, "lag": 2, "queue": 2}, "choose at least 3"),
    ],
)
def test_what_has_no_pace_of_its_own_is_refused(overrides, settings, sentence):
    """Critics were taught gradients for losses, and gradients went up whole where they were to be compressed."""
    rule = method(*overrides.split())
    with pytest.raises(ValueError, match=sentence):
        asynchronous(stages(2, rule), rule, **settings)


def test_roles_and_their_ranks():
    apart, together = Roles(3, "dedicated"), Roles(3, "colocated")
    assert [apart.stage_of(rank) for rank in range(apart.ranks)] == [2, 1, 0, None]
    assert [together.stage_of(rank) for rank in range(together.ranks)] == [2, 1, 0]
    assert [apart.oracle_of(k) for k in (0, 1)] == [3, 3]
    assert [together.oracle_of(k) for k in (0, 1)] == [1, 0]


@pytest.mark.parametrize(
    ("interface", "environment", "chosen"),
    [
        (None, {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "3"}, "lo"),
        (None, {"MASTER_ADDR": "a-name", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}, "lo"),
        ("eth1", {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "3"}, "eth1"),
        (None, {"MASTER_ADDR": "10.0.0.1", "WORLD_SIZE": "3", "GLOO_SOCKET_IFNAME": "eth0"}, "eth0"),
    ],
)
def test_roles_listen_on_loopback_unless_told_otherwise(interface, environment, chosen):
    assert choose(interface, environment) == chosen


@pytest.mark.parametrize("more", [{}, {"LOCAL_WORLD_SIZE": "1"}])
def test_several_hosts_need_an_interface_that_is_named(more):
    with pytest.raises(ValueError, match=r"execution\.interface=eth0"):
        choose(None, {"MASTER_ADDR": "10.0.0.1", "WORLD_SIZE": "3", **more})
