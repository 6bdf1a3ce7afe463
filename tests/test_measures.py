"""Measures of predicted gradients against other people's formulas, their invariances, and the ends of their ranges."""

import numpy as np
import pytest
import torch
from sklearn.metrics import explained_variance_score

from costate.core.measures import cosine, explained_variance, norm, relative_error

SHAPES = [(7, 1), (32, 10), (16, 3, 5, 5)]


def pair(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A prediction that resembles its target, neither centred at zero."""
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(shape, generator=generator) + 0.3
    return 0.5 * g + torch.randn(shape, generator=generator), g


@pytest.mark.parametrize("shape", SHAPES)
def test_formulas(shape):
    prediction, g = pair(shape)
    a, b = (tensor.double().numpy().reshape(len(tensor), -1) for tensor in (prediction, g))
    assert cosine(prediction, g).item() == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
    assert relative_error(prediction, g).item() == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b))
    score = explained_variance_score(b, a, multioutput="variance_weighted")
    assert explained_variance(prediction, g).item() == pytest.approx(score)


@pytest.mark.parametrize("measure", [cosine, relative_error, explained_variance])
@pytest.mark.parametrize("shape", SHAPES)
def test_neither_the_order_of_samples_nor_a_common_scale_nor_the_layout_matters(measure, shape):
    prediction, g = pair(shape)
    value = measure(prediction, g).item()
    order = torch.randperm(len(g), generator=torch.Generator().manual_seed(1))
    assert measure(prediction[order], g[order]).item() == pytest.approx(value, rel=1e-12)
    assert measure(1e-3 * prediction, 1e-3 * g).item() == pytest.approx(value, rel=1e-6)
    assert measure(prediction.flatten(1), g.flatten(1)).item() == pytest.approx(value, rel=1e-12)


def test_cosine_ignores_each_scale_and_explained_variance_ignores_a_constant():
    prediction, g = pair((32, 10))
    assert cosine(5 * prediction, 0.1 * g).item() == pytest.approx(cosine(prediction, g).item())
    assert cosine(-prediction, g).item() == pytest.approx(-cosine(prediction, g).item())
    shifted = explained_variance(prediction + torch.arange(10.0), g).item()
    assert shifted == pytest.approx(explained_variance(prediction, g).item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_the_ends_of_the_ranges(dtype, scale):
    g = (scale * pair((32, 10))[1]).to(dtype)
    zero = torch.zeros_like(g)
    perfect, silent = (g, g), (zero, g)
    assert [measure(*perfect).item() for measure in (cosine, relative_error, explained_variance)] == pytest.approx(
        [1, 0, 1]
    )
    assert [measure(*silent).item() for measure in (cosine, relative_error, explained_variance)] == pytest.approx(
        [0, 1, 0]
    )


def test_a_gradient_that_vanishes_gives_no_nan():
    zero, one = torch.zeros(4, 3), torch.ones(4, 3)
    assert [measure(zero, zero).item() for measure in (cosine, relative_error, explained_variance)] == [0, 0, 0]
    assert [measure(one, zero).item() for measure in (cosine, relative_error, explained_variance)] == [0, np.inf, 0]
    # One sample has no variance.
    assert explained_variance(one[:1], 2 * one[:1]).item() == 0


def test_a_norm_over_tensors_is_that_of_all_their_entries():
    tensors = [torch.randn(shape, generator=torch.Generator().manual_seed(2)) for shape in SHAPES]
    assert norm(tensors).item() == pytest.approx(torch.cat([t.flatten() for t in tensors]).norm().item())
    assert norm([]).item() == 0
