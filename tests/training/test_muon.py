"""Muon on stacked layers: against torch's own on single matrices, and what it leaves to Adam."""

import pytest
import torch
from torch import nn

from costate.training.muon import Muon, orthogonal

SETTINGS = {"lr": 0.01, "betas": (0.9, 0.999), "weight_decay": 0.1}


@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 4, 9), (2, 9, 4)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape):
    """U Σ Vᵀ -> U Σ′ Vᵀ, 0.6 < Σ′ < 1.25 where Σ is not far below its largest value."""
    torch.manual_seed(0)
    U, _, Vh = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    Σ = torch.linspace(0.2, 1, min(shape[1:]), dtype=torch.float64)
    core = U.mT @ orthogonal(3.0 * (U * Σ) @ Vh) @ Vh.mT
    diagonal = core.diagonal(dim1=1, dim2=2)
    assert torch.allclose(core, torch.diag_embed(diagonal), atol=1e-12)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.25


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="an older torch has none")
@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 4, 4, 3, 3)])
def test_each_layer_of_a_stack_steps_as_torch_steps_a_matrix(shape):
    """Which computes in bfloat16."""
    torch.manual_seed(0)
    stack = nn.Parameter(torch.randn(shape))
    layers = [nn.Parameter(layer.detach().flatten(1).clone()) for layer in stack]
    ours = Muon([stack], **SETTINGS)
    theirs = torch.optim.Muon(layers, lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        stack.grad = torch.randn(shape)
        for layer, gradient in zip(layers, stack.grad, strict=True):
            layer.grad = gradient.flatten(1)
        before = stack.detach().clone()
        ours.step()
        theirs.step()
    assert torch.allclose(stack.flatten(2), torch.stack(list(layers)), atol=0.1 * (stack - before).abs().max().item())


def test_everything_else_is_adamw_bit_for_bit():
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((4,), (5, 4), (2, 3, 4, 4))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    one, other = Muon(ours, **SETTINGS, fused=True), torch.optim.AdamW(theirs, **SETTINGS, fused=True)
    for _ in range(3):
        for p, q in zip(ours, theirs, strict=True):
            q.grad = p.grad = torch.randn_like(p)
        one.step()
        other.step()
    assert all(map(torch.equal, ours, theirs))


def test_it_steps_like_adam_in_size_and_a_parameter_without_gradient_stands_still():
    torch.manual_seed(0)
    stack, still = nn.Parameter(torch.zeros(2, 32, 32)), nn.Parameter(torch.ones(2, 3, 3))
    stack.grad = torch.randn_like(stack)
    gradient = stack.grad.clone()
    Muon([stack, still], **SETTINGS).step()
    assert stack.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)
    assert torch.equal(still, torch.ones_like(still))
    assert torch.equal(stack.grad, gradient), "those who measure find it"
