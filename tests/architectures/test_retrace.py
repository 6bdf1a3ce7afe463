"""The backward pass of reversible layers from their end alone, against autograd's, which stores everything."""

import pytest
import torch

from composing import network
from small import REBUILT, turned

SHAPE, OUTPUTS, BATCH = (2, 6, 6), 3, 7


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


@pytest.mark.parametrize("product", REBUILT)
@pytest.mark.parametrize(
    ("norm", "half", "activation"), [("false", True, "relu"), ("true", True, "tanh"), ("true", False, "relu")]
)
def test_rebuilt_states_and_their_gradients_are_autograds(product, norm, activation, half):
    first, second = blocks(*turned(product, half), f"arch.norm={norm}", f"arch.activation={activation}")
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
