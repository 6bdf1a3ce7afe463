"""The backward pass of reversible layers from their end alone, against autograd's, which stores everything."""

import pytest
import torch

from composing import network
from small import ONE_WAY, PRODUCTS, refusal

SHAPE, OUTPUTS, BATCH = (2, 6, 6), 3, 7
TWO_WAY = [product for product in PRODUCTS if "verlet" in product or "leapfrog" in product]


def blocks(*overrides: str) -> list[torch.nn.Module]:
    """Two stages without their head, in float64; layers differ."""
    torch.manual_seed(0)
    net = network(SHAPE, OUTPUTS, "arch.depth=6", "arch.width=8", *overrides).double()
    for p in net.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return net.cut(3)[:2]


def gradients(block: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad for name, p in block.named_parameters()}
    block.zero_grad()
    return found


@pytest.mark.parametrize("product", TWO_WAY)
@pytest.mark.parametrize("norm", ["true", "false"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("half", ["true", "false"])
def test_rebuilt_states_and_their_gradients_are_autograds(product, norm, activation, half):
    first, second = blocks(
        *product.split(), f"arch.norm={norm}", f"arch.activation={activation}", f"arch.integrator.half_start={half}"
    )
    for block, x in ((first, torch.randn(BATCH, *SHAPE).double()), (second, None)):
        x = torch.randn_like(first(torch.randn(BATCH, *SHAPE).double())) if x is None else x
        x.requires_grad_(block is second)
        h = block(x)
        g = torch.randn_like(h)
        h.backward(g)
        expected, statistics = gradients(block), {name: buffer.clone() for name, buffer in block.named_buffers()}
        again, end = block.retrace(h.detach(), x.detach() if block is first else None)
        assert torch.equal(end, h)
        end.backward(g)
        found = gradients(block)
        if block is second:
            torch.testing.assert_close(again.detach(), x.detach(), rtol=0, atol=1e-11)
            torch.testing.assert_close(again.grad, x.grad, rtol=0, atol=1e-11)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10, msg=name)
        assert all(torch.equal(buffer, statistics[name]) for name, buffer in block.named_buffers())


@pytest.mark.parametrize("product", ONE_WAY)
def test_other_networks_refuse(product):
    whole = network(SHAPE, OUTPUTS, *product.split()).block
    assert not whole.reversible
    for use in (lambda: whole.retrace(torch.randn(BATCH, 8), None), lambda: whole.inverse(torch.randn(BATCH, 8))):
        assert refusal(use).endswith("cannot be run backwards: choose arch=verlet or leapfrog")
