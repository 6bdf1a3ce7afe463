"""Tokens: what a layer is, openings, and what does not go."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from composing import network, refusal
from costate.core.block import Coarsening
from costate.core.measures import amplification
from small import INTEGRATORS, block, tokens

HEADS, WIDTH, LAYERS = 2, 4, 3


def written(w: dict[str, Tensor], Y: Tensor) -> tuple[Tensor, Tensor]:
    """Attention and mlp of one layer, a head at a time."""
    Z = F.layer_norm(Y, (WIDTH,), w["N_scale"], w["N_shift"])
    queries, keys, values = (Z @ part for part in w["K"].split(WIDTH, dim=1))
    d, heads = WIDTH // HEADS, []
    for i in range(HEADS):
        q, k, v = (each[..., i * d : (i + 1) * d] for each in (queries, keys, values))
        heads.append(torch.softmax(q @ k.mT / math.sqrt(d), dim=-1) @ v)
    Z = F.layer_norm(Y, (WIDTH,), w["M_scale"], w["M_shift"]) if "M_scale" in w else Y
    return torch.cat(heads, dim=-1) @ w["O"], torch.tanh(Z @ w["A"] + w["a"]) @ w["B"] + w["b"]


def test_a_layer_is_attention_and_mlp():
    """The sum for integrators that ask for one function; the mlp, and the attention beside it, for those of two."""
    Y = torch.randn(5, 7, WIDTH, dtype=torch.float64)
    for pair in (True, False):
        field = tokens(LAYERS, WIDTH, pair=pair)
        for j, layer in enumerate(field.layers(field.K, 1.0, 1.0)):
            attention, mlp = written({name: θ[j] for name, θ in field.named_parameters()}, Y)
            assert torch.allclose(layer.dual(Y), attention, atol=1e-12)
            assert torch.allclose(layer.f(Y), mlp if pair else attention + mlp, atol=1e-12)
            assert torch.allclose(layer.force(Y), attention + mlp, atol=1e-12)


@pytest.mark.parametrize(("shape", "count"), [((2, 8, 8), 4), ((1, 7, 9), 6), ((5, 3), 5)])
def test_images_are_cut_into_patches_and_steps_of_sequences_are_tokens(shape, count):
    """Images that are no multiple of a patch have zeros at their ends."""
    whole = network(shape, 3, "arch=vit", "arch.depth=2", "arch.width=8").double()
    x = torch.randn(2, *shape, dtype=torch.float64)
    Y = whole.block.open(x)
    assert Y.shape == (2, count, 8)
    opening = whole.block.opening
    if len(shape) == 3:
        first = opening.map.weight.flatten(1) @ x[0, :, :4, :4].flatten() + opening.map.bias + opening.position[0]
        assert torch.allclose(Y[0, 0], first, atol=1e-12)
    assert torch.allclose(whole.block.head(Y), whole.block.head[1](Y.mean(1)))


def test_a_layer_sees_the_order_of_tokens_by_their_positions_alone():
    field, Y = tokens(1, WIDTH), torch.randn(5, 7, WIDTH, dtype=torch.float64)
    (layer,), order = field.layers(field.K, 1.0, 1.0), torch.randperm(7)
    assert torch.allclose(layer.force(Y[:, order]), layer.force(Y)[:, order], atol=1e-12)


def test_a_coarse_copy_and_the_largest_factor_of_growth():
    """In forward mode, which is what the latter is measured by."""
    whole = network((1, 8, 8), 3, "arch=verlet", "arch/form=tokens", "arch.depth=8", "arch.width=8", "arch.T=1")
    stage = whole.cut(2)[1]
    h = whole.cut(2)[0](torch.randn(3, 1, 8, 8)).detach()
    copy = stage.coarse(Coarsening(4))
    assert copy.layers == 1
    assert torch.allclose(copy(h), stage(h), atol=0.1)
    assert amplification(lambda Y: stage.propagate(Y)[-1], h) > 0


@pytest.mark.parametrize(
    ("shape", "words", "sentence"),
    [
        ((2,), ("arch=vit",), "arch/form=tokens needs images (channels, height, width) or sequences (steps, features)"),
        ((1, 8, 8), ("arch=vit", "arch.width=33"), "arch.width=33 is no multiple of arch.form.heads=4: change either."),
        (
            (1, 8, 8),
            ("arch=antisymmetric", "arch/form=tokens"),
            "arch=antisymmetric makes weights antisymmetric, which gives attention no stable Jacobian: choose another",
        ),
    ],
)
def test_what_does_not_go_is_said_in_one_sentence(shape, words, sentence):
    assert refusal(lambda: network(shape, 3, *words)).startswith(sentence)


def test_gradients():
    """Those of autograd are those of finite differences, of the state and of all weights."""
    whole = block(tokens(2, WIDTH), INTEGRATORS["verlet"])
    Y = torch.randn(2, 3, WIDTH, dtype=torch.float64, requires_grad=True)
    names = [f"field.{name}" for name, _ in whole.field.named_parameters()]

    def output(Y, *weights):
        return torch.func.functional_call(whole, dict(zip(names, weights, strict=True)), Y)

    assert torch.autograd.gradcheck(output, (Y, *whole.field.parameters()), fast_mode=True)
