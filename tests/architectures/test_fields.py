"""The linear algebra of dense and convolutional fields."""

import pytest
import torch
import torch.nn.functional as F

from small import INTEGRATORS, block, conv, dense

FIELDS = {"dense": (dense, (5, 4)), "conv": (conv, (5, 4, 6, 7))}
EVERY = pytest.mark.parametrize(("make", "shape"), FIELDS.values(), ids=FIELDS)


@EVERY
def test_adjoint(make, shape):
    """⟨Y K, Z⟩ = ⟨Y, Z Kᵀ⟩."""
    field = make(2, shape[1])
    Y, Z = torch.randn(2, *shape, dtype=torch.float64)
    for layer in field.layers(field.K, 1.0, 1.0):
        K = layer.f.functions[0].K
        image, back = field.affine(Y, K, None), field.affine(Z, field.adjoint(K), None)
        assert torch.allclose((image * Z).sum(), (Y * back).sum(), rtol=1e-12)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_adjoint_of_a_convolution_is_conv_transpose(kernel):
    field = conv(3, 4, kernel=kernel)
    Z = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    for K in field.K:
        back = field.affine(Z, field.adjoint(K), None)
        assert torch.allclose(back, F.conv_transpose2d(Z, K, padding=kernel // 2), atol=1e-12)


@EVERY
def test_layers_are_the_equations(make, shape):
    """σ(Y K + b), σ(Y Kᵀ + b) and σ(Y K + b) Kᵀ, written out with matrices and with torch's own convolutions."""
    field, Y = make(3, shape[1]), torch.randn(*shape, dtype=torch.float64)
    for j, layer in enumerate(field.layers(field.K, 1.0, 1.0)):
        K, b = field.K[j], field.b[j]
        if make is dense:
            image, transposed = Y @ K + b, Y @ K.T + b
        else:
            image, transposed = F.conv2d(Y, K, b, padding=1), F.conv_transpose2d(Y, K, b, padding=1)
        back = image.tanh() @ K.T if make is dense else F.conv_transpose2d(image.tanh(), K, padding=1)
        assert torch.allclose(layer.f(Y), image.tanh(), atol=1e-12)
        assert torch.allclose(layer.dual(Y), transposed.tanh(), atol=1e-12)
        assert torch.allclose(layer.force(Y), back, atol=1e-12)


@EVERY
def test_skew(make, shape):
    """Y ½ (K − Kᵀ − γ I) = ½ (Y K − Y Kᵀ − γ Y)."""
    field, Y = make(2, shape[1]), torch.randn(*shape, dtype=torch.float64)
    for K, skew in zip(field.K, field.skew(0.3), strict=True):
        expected = 0.5 * (field.affine(Y, K, None) - field.affine(Y, field.adjoint(K), None) - 0.3 * Y)
        assert torch.allclose(field.affine(Y, skew, None), expected, atol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 2.0])
@pytest.mark.parametrize(("make", "shape"), [(dense, (1, 6)), (conv, (1, 3, 4, 3))], ids=FIELDS)
def test_antisymmetric_field_does_not_grow(make, shape, gamma, activation):
    """Eigenvalues of the Jacobian of σ(½ Y (K − Kᵀ − γ I) + b) have real part ≤ 0; those of σ(Y K + b) do not."""
    free = []
    for seed in range(8):
        field, Y = make(1, shape[1], seed=seed, activation=activation), torch.randn(*shape, dtype=torch.float64)
        for K in (field.skew(gamma), field.K):
            (layer,) = field.layers(K, 1.0, 1.0)
            jacobian = torch.autograd.functional.jacobian(layer.f, Y).reshape(Y.numel(), Y.numel())
            free.append(torch.linalg.eigvals(jacobian).real.max().item())
    assert max(free[::2]) <= 1e-12
    assert max(free[1::2]) > 0.1


@pytest.mark.parametrize("name", INTEGRATORS)
@EVERY
def test_gradients(make, shape, name):
    """Those of autograd are those of finite differences, for the state and for the stacked weights."""
    whole = block(make(2, 2), INTEGRATORS[name])
    Y = torch.randn(2, 2, *(3 for _ in shape[2:]), dtype=torch.float64, requires_grad=True)

    def output(Y, K, b):
        return torch.func.functional_call(whole, {"field.K": K, "field.b": b}, Y)

    assert torch.autograd.gradcheck(output, (Y, whole.field.K, whole.field.b), fast_mode=True)
