"""Backpropagation with less memory is backpropagation: inputs instead of graphs, pieces instead of batches."""

import pytest
import torch

from composing import method, network, refusal
from costate.core.stage import Stage
from costate.core.tasks import Classification
from costate.execution.serial import Serial
from costate.training.module import stages as make_stages

SHAPE, CLASSES = (6,), 4


def trained(module: str, *overrides: str) -> tuple[list[Stage], torch.Tensor]:
    """Three stages behind a batch in float64, and the output."""
    each = method("method=backprop", *overrides)
    torch.manual_seed(0)
    net = network(SHAPE, CLASSES, "arch=sequential", f"arch.module=own_network:{module}")
    parts = [part.double() for part in make_stages(net.cut(3), SHAPE, Classification(CLASSES), each)]
    torch.manual_seed(1)
    x, y = torch.randn(12, *SHAPE).double(), torch.randint(CLASSES, (12,))
    output = each.iteration(Serial(parts, each, lag=0)).gradient(0, x, y, ahead=0)
    return parts, output


def gradients(parts: list[Stage]) -> list[torch.Tensor]:
    return [p.grad for part in parts for p in part.parameters()]


@pytest.mark.parametrize("module", ["layers", "random"])
def test_checkpoints_change_no_gradient_and_no_running_statistic(module):
    """Random layers draw the same when they are run again."""
    (plain, _), (checked, _) = trained(module), trained(module, "method.checkpoint=true")
    assert all(map(torch.equal, gradients(plain), gradients(checked)))
    for a, b in zip(plain, checked, strict=True):
        assert all(map(torch.equal, a.buffers(), b.buffers()))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_with_checkpoints_a_stage_holds_its_input_alone(checkpoint):
    each = method("method=backprop", f"method.checkpoint={checkpoint}")
    net = network(SHAPE, CLASSES, "arch=verlet", "arch.depth=16", "arch.width=32")
    (front, _) = make_stages(net.cut(2), SHAPE, Classification(CLASSES), each)
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t):
        front.send(0, torch.randn(64, *SHAPE), torch.zeros(64).long(), first=True)
    assert (sum(held) < 1000) == checkpoint


@pytest.mark.parametrize("pieces", [1, 3, 12])
def test_pieces_of_a_batch_add_up_to_it(pieces):
    (whole, output), (parts, found) = trained("plain"), trained("plain", f"method.accumulate={pieces}")
    for a, b in zip(gradients(whole), gradients(parts), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)
    torch.testing.assert_close(found, output)
    torch.testing.assert_close(parts[-1].interface.value, whole[-1].interface.value)


def test_pieces_are_equal_ones():
    assert refusal(lambda: trained("plain", "method.accumulate=5")) == (
        "method.accumulate=5 does not divide the 12 rows of a process's batch."
    )
