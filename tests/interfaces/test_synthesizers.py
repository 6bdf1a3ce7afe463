"""What a synthesizer can say: the gradients of which networks lie in its reach."""

import pytest
import torch
import torch.nn.functional as F

from costate.methods.synthetic_gradients import Conv, Pooled


def test_pooled_can_say_the_gradient_of_a_linear_head_on_means():
    """½ ‖W P h − y‖² has the gradient Pᵀ Wᵀ (W P h − y) / r², where r × r pixels are a region."""
    channels, pool, r, outputs, batch = 3, 2, 4, 5, 6
    h = torch.randn(batch, channels, pool * r, pool * r, dtype=torch.float64, requires_grad=True)
    W = torch.randn(outputs, channels * pool**2, dtype=torch.float64)
    y = torch.randn(batch, outputs, dtype=torch.float64)
    means = h.unflatten(3, (pool, r)).unflatten(2, (pool, r)).mean(dim=(3, 5))
    (0.5 * (means.flatten(1) @ W.T - y).square().sum()).backward()
    synthesizer = Pooled(h.shape[1:], outputs, pool=pool).double()
    assert not synthesizer(h, y).any(), "untrained, it answers 0"
    with torch.no_grad():
        synthesizer.layer.weight.copy_(torch.cat([W.T @ W, -W.T], dim=1) / r**2)
    torch.testing.assert_close(synthesizer(h, y), h.grad)


def test_pooled_can_say_a_matrix_at_every_pixel():
    """Of images that its regions do not divide, and that are smaller than so many regions."""
    for side in (7, 2):
        h, D = torch.randn(2, 3, side, side), torch.randn(3, 3)
        synthesizer = Pooled(h.shape[1:], 0, pool=4)
        with torch.no_grad():
            synthesizer.local.weight.copy_(D[:, :, None, None])
        torch.testing.assert_close(synthesizer(h, None), F.conv2d(h, D[:, :, None, None]))


@pytest.mark.parametrize(
    ("kind", "settings"), [(Conv, {"layers": 1, "channels": 2, "kernel": 3}), (Pooled, {"pool": 2})]
)
def test_vectors_are_no_images(kind, settings):
    with pytest.raises(ValueError, match=r"needs images at the boundaries, here they hold 7 features: use "):
        kind((7,), 0, **settings)
