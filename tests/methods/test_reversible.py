"""arch.reversible=true changes what is stored, and nothing else: under every method, in a pipeline, at every level."""

import pytest
import torch

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
