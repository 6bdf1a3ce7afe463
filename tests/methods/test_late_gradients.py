"""True gradients that arrive late: what a stage steps on, against plain autograd with copies of the network."""

import copy
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from composing import method, network, refusal
from costate.architectures.integrators import one_way
from costate.core.method import Method
from costate.core.stage import Stage
from costate.core.tasks import Classification
from costate.execution.serial import Serial
from costate.training.module import stages as make_stages
from small import REVERSIBLE, STABLE

SHAPE, CLASSES, BATCH, STEPS = (6,), 3, 10, 9
TASK = Classification(CLASSES)
NETWORKS = {
    "mlp": ("arch=mlp", "arch.widths=[12,10,9]"),
    "own": ("arch=sequential", "arch.module=own_network:layers"),
    "couplings": ("arch=sequential", "arch.module=own_network:couplings"),
}
SWITCHES = itertools.cycle(["arch.smoothness=0.01", "arch.norm=true", "arch.activation=relu"])
NETWORKS |= {name: (f"arch={name}", "arch.depth=8", "arch.width=8", next(SWITCHES)) for name in STABLE}
BACKWARDS = [*(name for name in STABLE if name in REVERSIBLE), "couplings"]
CASES = [(name, rule) for name in NETWORKS for rule in ("delayed", "replay")]
CASES += [(name, "petra") for name in BACKWARDS]


def parts(name: str, rule: Method, count: int = 4, *overrides: str) -> list[Stage]:
    torch.manual_seed(0)
    net = network(SHAPE, CLASSES, *NETWORKS[name], *overrides)
    return [stage.double() for stage in make_stages(net.cut(count), SHAPE, TASK, rule)]


def batches(steps: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(BATCH, *SHAPE, generator=generator).double(),
            torch.randint(CLASSES, (BATCH,), generator=generator),
        )
        for _ in range(steps)
    ]


def gradients(stage: Stage) -> list[Tensor] | None:
    found = [p.grad for p in stage.block.parameters()]
    assert len({g is None for g in found}) == 1
    return None if found[0] is None else found


def close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "rule"), CASES)
@pytest.mark.parametrize("delay", [0, 1, 2])
def test_while_weights_stand_still_gradients_are_those_of_backpropagation(name, rule, delay):
    late, exact = method(f"method={rule}", f"method.delay={delay}"), method("method=backprop")
    ours, theirs = parts(name, late), parts(name, exact)
    first, second, true = Serial(ours, late, lag=0), Serial(theirs, exact, lag=0), []
    for n, (x, y) in enumerate(batches()):
        nn.ModuleList(ours).zero_grad()
        nn.ModuleList(theirs).zero_grad()
        first.step(n, x, y)
        second.step(n, x, y)
        true.append([gradients(stage) for stage in theirs])
        for k, stage in enumerate(ours):
            m, found = n - delay * (3 - k), gradients(stage)
            assert (found is None) == (m < 0)
            if found is not None:
                close(found, true[m][k], 1e-12 if rule != "petra" else 1e-10)
                assert first.staleness[k] == n - m
    for a, b in zip(ours, theirs, strict=True):
        # Running statistics have moved once a batch, by the forward pass.
        assert all(map(torch.equal, a.block.buffers(), b.block.buffers()))


def test_petra_rebuilds_64_layers_and_keeps_nothing_but_the_batch():
    overrides = ("arch.depth=64", "arch.width=16")
    late, exact = method("method=petra"), method("method=backprop")
    ours, theirs = parts("verlet", late, 4, *overrides), parts("verlet", exact, 4, *overrides)
    x, y = batches(1)[0]
    Serial(theirs, exact, lag=0).step(0, x, y)
    serial = Serial(ours, late, lag=0)
    for n in range(7):
        nn.ModuleList(ours).zero_grad()
        serial.step(n, x, y)
    for a, b in zip(ours, theirs, strict=True):
        close(gradients(a), gradients(b), 1e-8)
        assert max(g.abs().max() for g in gradients(b)) > 1e-3
    assert all(flight.h is None and flight.weights is None for stage in ours for flight in stage.flights.values())
    assert all(flight.x is None for stage in ours[1:] for flight in stage.flights.values())


def reference(blocks: list[nn.Module], delay: int, stashed: bool, predict: bool) -> list[list[Tensor]]:
    """The weights of all stages after each step: copies of whole blocks instead of any cleverness."""
    blocks, count = copy.deepcopy(blocks), len(blocks)
    optimizer = torch.optim.Adam([p for block in blocks for p in block.parameters()], lr=0.01)
    seen: dict[tuple[int, int], tuple[nn.Module, Tensor]] = {}
    came: dict[tuple[int, int], Tensor] = {}
    past: list[list[Tensor]] = []
    result = []
    for n, (x, y) in enumerate(batches()):
        optimizer.zero_grad()
        for k, block in enumerate(blocks):
            seen[k, n] = copy.deepcopy(block), x.detach()
            if predict and past:
                for p, before in zip(seen[k, n][0].parameters(), past[k], strict=True):
                    p.data += delay * (count - 1 - k) * (p.data - before)
            x = seen[k, n][0](x)
        past = [[p.detach().clone() for p in block.parameters()] for block in blocks]
        came[count - 1, n] = torch.autograd.grad(TASK.loss(x, y), x)[0]
        for k in reversed(range(count)):
            m = n - delay * (count - 1 - k)
            if m < 0:
                continue
            old, x = seen[k, m]
            used, x = old if stashed else blocks[k], x.requires_grad_()
            used.zero_grad()
            penalty = blocks[k].penalty()
            if penalty is not None:
                penalty.backward()
            used(x).backward(came[k, m])
            came[k - 1, m] = x.grad
            if stashed:
                for p, q in zip(blocks[k].parameters(), old.parameters(), strict=True):
                    p.grad = q.grad if p.grad is None else p.grad + q.grad
        optimizer.step()
        result.append([p.detach().clone() for block in blocks for p in block.parameters()])
    return result


@pytest.mark.parametrize("name", ["mlp", "verlet", "antisymmetric"])
@pytest.mark.parametrize("rule", ["delayed", "replay"])
@pytest.mark.parametrize("predict", [False, True])
def test_the_backward_pass_runs_under_the_weights_of_its_forward_pass_or_under_todays(name, rule, predict):
    """Plain linear layers raise, and antisymmetric ones mix weights in silence, where nothing is done about it."""
    late = method(f"method={rule}", "method.delay=2", f"method.predict={predict}")
    ours = parts(name, late)
    expected = reference([stage.block for stage in ours], 2, stashed=rule == "delayed", predict=predict)
    serial = Serial(ours, late, lag=0)
    optimizer = torch.optim.Adam([p for stage in ours for p in stage.parameters()], lr=0.01)
    for n, (x, y) in enumerate(batches()):
        optimizer.zero_grad()
        serial.step(n, x, y)
        optimizer.step()
        close([p for stage in ours for p in stage.block.parameters()], expected[n], 1e-12)


@pytest.mark.parametrize("rule", ["delayed", "replay", "petra"])
def test_a_stage_stands_still_until_its_first_gradient_arrives(rule):
    late = method(f"method={rule}", "method.delay=2")
    ours = parts("verlet", late)
    serial, start = Serial(ours, late, lag=0), copy.deepcopy(ours[0].state_dict())
    optimizer = torch.optim.AdamW([p for stage in ours for p in stage.parameters()], lr=0.01, fused=True)
    for n, (x, y) in enumerate(batches(8)):
        optimizer.zero_grad()
        serial.step(n, x, y)
        optimizer.step()
        if n == 5:
            assert all(torch.equal(value, start[name]) for name, value in ours[0].state_dict().items())
            assert not any(p in optimizer.state for p in ours[0].parameters())
    for k, stage in enumerate(ours):
        assert {int(optimizer.state[p]["step"]) for p in stage.parameters()} == {8 - 2 * (3 - k)}


def test_a_gradient_shrinks_at_each_boundary():
    x, y = batches(1)[0]
    found = []
    for shrink in (1.0, 0.5):
        late = method("method=delayed", "method.delay=0", f"method.shrink={shrink}")
        ours = parts("mlp", late)
        Serial(ours, late, lag=0).step(0, x, y)
        found.append([gradients(stage) for stage in ours])
    for k, (whole, shrunk) in enumerate(zip(*found, strict=True)):
        close(shrunk, [0.5 ** (3 - k) * g for g in whole], 1e-15)


def run(stages: list[Stage], rule: Method, change: Callable[[int, list[Any]], list[Any]]) -> list[Stage]:
    """Trains; before each batch stages, optimizer and execution may be replaced."""
    optimizer = torch.optim.Adam([p for stage in stages for p in stage.parameters()], lr=0.01)
    state = [stages, optimizer, Serial(stages, rule, lag=0)]
    for n, (x, y) in enumerate(batches()):
        stages, optimizer, serial = state = change(n, state)
        optimizer.zero_grad()
        serial.step(n, x, y)
        optimizer.step()
    return stages


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_a_resumed_execution_is_an_uninterrupted_one(name, rule):
    late = method(f"method={rule}")

    def reborn(n: int, state: list[Any]) -> list[Any]:
        if n != 5:
            return state
        buffer = io.BytesIO()
        torch.save([[stage.state_dict() for stage in state[0]], state[1].state_dict(), state[2].state_dict()], buffer)
        buffer.seek(0)
        tensors, moments, pending = torch.load(buffer, weights_only=True)
        fresh = parts(name, late)
        for stage, saved in zip(fresh, tensors, strict=True):
            stage.load_state_dict(saved)
        optimizer = torch.optim.Adam([p for stage in fresh for p in stage.parameters()], lr=0.01)
        optimizer.load_state_dict(moments)
        serial = Serial(fresh, late, lag=0)
        serial.load_state_dict(pending, torch.device("cpu"))
        return [fresh, optimizer, serial]

    straight = run(parts(name, late), late, lambda n, state: state)
    resumed = run(parts(name, late), late, reborn)
    for a, b in zip(straight, resumed, strict=True):
        assert all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


@pytest.mark.parametrize("rule", ["delayed", "replay", "petra"])
def test_gradients_of_another_network_are_abandoned_and_the_run_goes_on(rule):
    """Between two levels: the batches on their way were those of the coarse network."""
    late = method(f"method={rule}", "method.delay=2")
    ours = parts("verlet", late)
    serial = Serial(ours, late, lag=0)
    for n, (x, y) in enumerate(batches()):
        if n == 4:
            assert ours[0].flights
            assert serial.replies
            serial.abandon()
            assert not any(stage.flights for stage in ours)
            assert not serial.replies
        nn.ModuleList(ours).zero_grad()
        serial.step(n, x, y)
        assert (gradients(ours[2]) is None) == (n < 2 or 4 <= n < 6)


@pytest.mark.parametrize("name", ["mlp", *(name for name in STABLE if name not in BACKWARDS)])
def test_petra_refuses_networks_that_cannot_run_backwards(name):
    sentence = refusal(lambda: parts(name, method("method=petra")))
    assert sentence.startswith("method=petra rebuilds")
    assert sentence.endswith(one_way())
