"""arch.reversible=true changes what is stored, and nothing else: under every method, in a pipeline, at every level."""

import pytest
import torch

import composing
from composing import method, network, options
from costate.architectures.integrators import one_way
from costate.core.block import RULES, prolong
from costate.core.stage import Stage
from costate.core.tasks import Classification
from costate.execution.serial import Serial
from costate.training.module import stages as make_stages
from running import QUIET, SMALL, fit, refusal

SHAPE, CLASSES, STEPS = (6,), 3, 3


def trained(rule: str, reversible: bool, arch: str, deeper: bool = False) -> list[Stage]:
    """Three stages after a few steps; made twice as deep after the first one, or not."""
    torch.manual_seed(0)
    words = f"arch={arch}", "arch.depth=6", "arch.width=8", f"arch.reversible={str(reversible).lower()}"
    each = method(*f"method={rule}".split())
    net = network(SHAPE, CLASSES, *words, "arch.smoothness=0.01", "arch.norm=true")
    parts = [part.double() for part in make_stages(net.cut(3), SHAPE, Classification(CLASSES), each)]
    serial = Serial(parts, each, lag=0)
    for n in range(STEPS):
        if n == 1 and deeper:
            prolong(RULES["linear"], [part.block for part in parts])
        optimizer = torch.optim.SGD([p for part in parts for p in part.parameters()], lr=0.1)
        torch.manual_seed(n)
        optimizer.zero_grad()
        serial.step(n, torch.randn(10, *SHAPE).double(), torch.randint(CLASSES, (10,)))
        optimizer.step()
    return parts


@pytest.mark.parametrize(
    ("rule", "arch", "deeper"),
    [
        *((rule, "verlet", False) for rule in options("method")),
        ("backprop method.checkpoint=true", "verlet", False),
        ("sg", "verlet", True),
        ("sg", "leapfrog", False),
    ],
)
def test_every_method_trains_as_it_does_with_stored_states(rule, arch, deeper):
    stored, rebuilt = (trained(rule, reversible, arch, deeper) for reversible in (False, True))
    assert all(part.block.rebuilds for part in rebuilt)
    for a, b in zip(stored, rebuilt, strict=True):
        for (name, tensor), other in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
            assert torch.allclose(tensor, other, rtol=1e-10, atol=1e-10), name


def gradients(module: str, rule: str, *words: str) -> list[torch.Tensor | None]:
    """Of one batch, of a user's network in three stages."""
    torch.manual_seed(0)
    net, each = network(SHAPE, 4, "arch=sequential", f"arch.module=own_network:{module}", *words), method(*rule.split())
    parts = make_stages(net.cut(3), SHAPE, Classification(4), each)
    Serial(parts, each, lag=0).step(0, torch.randn(8, *SHAPE), torch.arange(8) % 4)
    return [p.grad for part in parts for p in part.block.parameters()]


def test_layers_that_are_frozen_are_run_backwards_as_well():
    """They had been asked for the gradients that they do not have."""
    found, expected = (gradients("half_frozen", rule) for rule in ("method=petra method.delay=0", "method=backprop"))
    assert [g is None for g in found] == [g is None for g in expected]
    assert sum(g is None for g in found) == 2
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_dropout_which_would_leave_out_others_on_the_way_back_is_refused():
    """Gradients were wrong, without a word; without dropout they are right."""
    rule = "method=petra method.delay=0"
    told = composing.refusal(lambda: gradients("random_couplings", rule))
    assert told.startswith("method=petra runs layers once more on its way back, and dropout would leave out others")
    none = [gradients("random_couplings", each, "arch.settings={p: 0}") for each in (rule, "method=backprop")]
    for a, b in zip(*none, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_run_says_how_much_it_held(tmp_path):
    """In summary.json; a reversible run holds less and is scored the same."""
    words = (*SMALL, *QUIET, "arch.depth=16", "seed=0", "epochs=1", "callbacks=[default,peak_memory]")
    stored, rebuilt = (
        fit(tmp_path / value, *words, f"arch.reversible={value}").results() for value in ("false", "true")
    )
    assert rebuilt["peak_bytes"] < 0.5 * stored["peak_bytes"]
    assert rebuilt["test/accuracy"] == stored["test/accuracy"]


def test_other_networks_refuse_before_training(tmp_path):
    reason = refusal(tmp_path / "run", "arch=resnet", "arch.reversible=true", *QUIET)
    assert reason == f"arch.reversible=true: {one_way()}"
