"""A copy of what is behind a boundary: true gradients when it is fresh, those of older weights when it is not."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import costate

X, Y, TARGETS = torch.randn(16, 6), torch.randint(3, (16,)), torch.randn(16, 3)


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def stepped(model: nn.Module, whole: nn.Module, context: torch.Tensor, loss, steps: int) -> None:
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(steps):
        sgd.zero_grad()
        loss(whole(X, context) if whole is not model else model(X), context).backward()
        sgd.step()


@pytest.mark.parametrize(
    ("told", "context", "loss"), [("classes", Y, F.cross_entropy), ("targets", TARGETS, F.mse_loss)]
)
def test_a_fresh_copy_is_backpropagation(told, context, loss):
    plain, cut = layers(), layers()
    net = costate.decouple(cut, at=[2, 4], copies=1, **{told: 3})
    stepped(plain, plain, context, loss, 4)
    stepped(cut, net, context, loss, 4)
    for p, q in zip(plain.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    assert len(list(net.boundaries.buffers())) > 0
    assert all(not p.requires_grad for p in net.boundaries.parameters())


def test_an_older_copy_says_the_gradient_of_older_weights():
    model = layers()
    old = copy.deepcopy(model[2:])
    net = costate.decouple(model, at=[2], copies=2, classes=3)
    stepped(model, net, Y, F.cross_entropy, 1)
    inputs = copy.deepcopy(model[:2])
    model.zero_grad()
    F.cross_entropy(net(X, Y), Y).backward()
    F.cross_entropy(old(inputs(X)), Y).backward()
    for p, q in zip(model[:2].parameters(), inputs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_a_copy_goes_on_where_it_was():
    """Its weights and its count are in the state dict, the live layers are there once."""
    net = costate.decouple(layers(), at=[2], copies=3, classes=3)
    F.cross_entropy(net(X, Y), Y).backward()
    other = costate.decouple(layers(), at=[2], copies=3, classes=3)
    other.load_state_dict(net.state_dict())
    assert other.boundaries[0].synthesizer.calls == 1
    names = list(net.state_dict())
    assert len(names) == len(set(names))
    assert sum("live" in name for name in names) == 0


def test_what_cannot_be_is_a_sentence():
    with pytest.raises(ValueError, match="not both"):
        costate.decouple(layers(), at=[2], copies=2, synthesizer=nn.Linear, classes=3)
    with pytest.raises(ValueError, match="below 1"):
        costate.decouple(layers(), at=[2], copies=0, classes=3)
    with pytest.raises(ValueError, match="needs the labels"):
        costate.decouple(layers(), at=[2], copies=1)(X)
