"""Local losses: whose gradient goes where, what heads learn, what is compared, and what is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from composing import method, network, refusal
from costate.core.stage import Stage
from costate.core.tasks import Classification, Regression
from costate.execution.serial import Serial
from costate.methods.backprop import Backprop
from costate.methods.local import LocalLoss, cosines
from costate.training.module import stages as make_stages

SHAPE, CLASSES, BATCH = (1, 8, 8), 3, 12
TASK = Classification(CLASSES)
LOSSES = ("pred", "sim", "predsim")


def stages(*overrides: str, arch: str = "cnn", count: int = 3) -> list[Stage]:
    torch.manual_seed(0)
    words = ("arch=cnn", "arch.filters=[3,4]") if arch == "cnn" else ("arch=verlet", "arch.depth=6", "arch.width=8")
    parts = network(SHAPE, CLASSES, *words).cut(count)
    return [stage.double() for stage in make_stages(parts, SHAPE, TASK, method("method=greedy", *overrides))]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, *SHAPE, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (BATCH,), generator=generator)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("head", ["linear", "mlp", "conv"])
def test_each_stage_and_its_head_have_the_gradients_of_their_own_loss(loss, head):
    """Those of autograd through the stage alone; the last stage's loss is the network's."""
    parts = stages(f"method.loss={loss}", f"method.head={head}")
    known, (x, y) = copy.deepcopy(parts), batch()
    Serial(parts, method("method=greedy"), lag=1).step(0, x, y)
    h = x
    for stage in known:
        h = stage.block(h.detach())
        last = stage is known[-1]
        (TASK.loss(h, y) if last else stage.interface.loss(h, y)).backward()
    for stage, reference in zip(parts, known, strict=True):
        for (name, p), q in zip(stage.named_parameters(), reference.parameters(), strict=True):
            assert torch.allclose(p.grad, q.grad, rtol=1e-12, atol=1e-14), name
            assert p.grad.norm() > 0 or "conv.bias" in name


def test_one_loss_is_the_share_of_both():
    """(1 − β) pred + β sim, each as it is alone."""
    h, (_, y) = torch.randn(BATCH, 5, dtype=torch.float64), batch()
    head, features = nn.Linear(5, CLASSES).double(), nn.Linear(5, 7).double()
    pred, sim = LocalLoss(head, None, TASK, 0.0).loss(h, y), LocalLoss(None, features, TASK, 1.0).loss(h, y)
    both = LocalLoss(head, features, TASK, 0.3).loss(h, y)
    assert torch.allclose(pred, F.cross_entropy(head(h), y))
    assert torch.allclose(both, 0.7 * pred + 0.3 * sim)


def test_samples_of_a_class_are_to_look_alike():
    """Cosines of rows without their means, those of one-hot rows are 1 in a class and −1/(classes − 1) across."""
    A = torch.randn(6, 9, dtype=torch.float64)
    assert torch.allclose(cosines(A), torch.corrcoef(A))
    y = torch.tensor([0, 1, 0, 2])
    S = cosines(F.one_hot(y, 3).double())
    assert torch.allclose(S, torch.where(y[:, None] == y, 1.0, -0.5).double())
    alike = LocalLoss(None, nn.Identity(), TASK, 1.0).loss(F.one_hot(y, 3).double(), y)
    assert alike == pytest.approx(0, abs=1e-15)
    assert torch.equal(cosines(torch.ones(2, 3)), torch.zeros(2, 2)), "a row that does not vary resembles nothing"


@pytest.mark.parametrize("exact", [None, Backprop()])
def test_heads_learn_while_stages_train_under_true_gradients(exact):
    """On the coarse levels of a multilevel run; the stages then have backprop's gradients."""
    parts, (x, y) = stages(arch="verlet"), batch()
    serial = Serial(parts, method("method=greedy"), lag=0)
    serial.guide(exact)
    serial.step(0, x, y)
    assert all(p.grad.norm() > 0 for stage in parts[:-1] for p in stage.interface.parameters())
    whole = copy.deepcopy(parts)
    for stage in whole:
        stage.zero_grad()
    h = x
    for stage in whole:
        h = stage.block(h)
    TASK.loss(h, y).backward()
    bodies = [[*stage.block.parameters()] for stage in parts], [[*stage.block.parameters()] for stage in whole]
    pairs = [(p.grad, q.grad) for a, b in zip(*bodies, strict=True) for p, q in zip(a, b, strict=True)]
    assert all(torch.allclose(a, b, rtol=1e-10) for a, b in pairs) == (exact is not None)


def test_a_local_loss_keeps_nothing_for_later():
    """It asks for no gradient from behind, and its batches are done when they are updated."""
    parts, (x, y) = stages(), batch()
    serial = Serial(parts, method("method=greedy"), lag=1)
    for n in range(3):
        serial.step(n, x, y)
    assert serial.replies == {}
    assert all(stage.flights == stage.lessons == {} for stage in parts)


@pytest.mark.parametrize("loss", LOSSES)
def test_regression_has_a_loss_of_its_own_but_no_classes_to_compare(loss):
    rule, task = method("method=greedy", f"method.loss={loss}"), Regression(2)
    if loss == "pred":
        interface = rule.interface((5,), task, [])
        h, y = torch.randn(4, 5), torch.randn(4, 2)
        assert torch.equal(interface.loss(h, y), F.mse_loss(interface.head(h), y))
    else:
        assert refusal(lambda: rule.interface((5,), task, [])) == (
            f"method.loss={loss} compares samples by their classes, and here numbers are to be predicted: "
            "use method.loss=pred"
        )


def test_a_convolution_reads_no_vector():
    sentence = refusal(lambda: stages("method.head=conv", arch="verlet"))
    assert sentence == (
        "method.head=conv needs images at the boundaries, here they hold 16 features: use method.head=linear or mlp"
    )


@pytest.mark.parametrize("loss", ["sim", "predsim"])
def test_images_of_one_pixel_are_compared_too(loss):
    """Of one pixel there is no deviation: VGG8B on pictures of 8 × 8 came to nan."""
    interface = method("method=greedy", f"method.loss={loss}").interface((5, 1, 1), TASK, [])
    g = interface.gradient(torch.randn(6, 5, 1, 1), torch.arange(6) % CLASSES, None, 0)
    assert g.isfinite().all()
    assert g.abs().max() > 0
