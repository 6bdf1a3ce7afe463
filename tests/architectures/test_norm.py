"""Batch norm: stacked layers, and statistics of a batch that several ranks share."""

import copy

import pytest
import torch
from torch import nn

from costate.architectures.norm import Norm


def drawn(layers: int, width: int) -> Norm:
    norm = Norm(layers, width).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 5)])
def test_a_layer_of_a_stack_is_torch_batch_norm(shape):
    norm = drawn(4, 3)
    for j in range(4):
        normalise = norm.rule()(j, norm.scale[j], norm.shift[j])
        known = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3).double()
        known.load_state_dict({"weight": norm.scale[j], "bias": norm.shift[j]}, strict=False)
        x = torch.randn(shape, dtype=torch.float64)
        assert torch.equal(normalise(x), known(x))
        assert torch.equal(norm.mean[j], known.running_mean)
        assert torch.equal(norm.var[j], known.running_var)
        assert torch.equal(norm.eval().rule()(j, norm.scale[j], norm.shift[j])(x), known.eval()(x))
        norm.train()


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 4, 5)])
def test_shares_of_a_batch(shape):
    """A rank that has some rows of a batch normalises them as one process does that has them all."""
    batch = torch.randn(shape, dtype=torch.float64)
    mine, other, across = batch[:5], batch[5:], [0, *range(2, batch.ndim)]
    var, mean = torch.var_mean(other, across, correction=0)
    n = torch.tensor([other.numel() / 3])
    one = drawn(1, 3)
    rank = copy.deepcopy(one)
    rank.gather = lambda own: torch.stack([own, torch.cat([n, mean, n * var])])
    assert torch.allclose(one(batch)[:5], rank(mine), atol=1e-12)
    assert torch.allclose(one.mean, rank.mean)
    assert torch.allclose(one.var, rank.var)
    assert torch.allclose(one.eval()(batch)[:5], rank.eval()(mine))


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 5)])
def test_gradients_of_a_shared_batch(shape):
    """Two ranks with the same rows have, each, half of the gradients of one process that has those rows twice."""
    x, g = torch.randn(2, *shape, dtype=torch.float64)
    one = drawn(1, 3)
    rank = copy.deepcopy(one)
    rank.gather = lambda own: torch.stack([own, own])
    twice, once = torch.cat([x, x]).requires_grad_(), x.clone().requires_grad_()
    one(twice).backward(torch.cat([g, g]))
    rank(once).backward(g)
    assert torch.allclose(twice.grad[: len(x)], once.grad, atol=1e-12)
    assert torch.allclose(one.scale.grad, 2 * rank.scale.grad)
    assert torch.allclose(one.shift.grad, 2 * rank.shift.grad)
