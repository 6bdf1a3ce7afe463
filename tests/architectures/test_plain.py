"""The networks of the DNI paper."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from composing import network, refusal


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_mlp_has_one_hidden_layer_of_256():
    mlp = network((1, 28, 28), 10, "arch=mlp")
    assert mlp.layers == 2
    assert parameters(mlp) == (784 + 1) * 256 + (256 + 1) * 10


@pytest.mark.parametrize("boundary", ["after", "before"])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_mlp_is_written_out(activation, norm, boundary):
    """Any number of hidden layers, batch norm in front of σ, a linear layer at the end; cut after σ or before it."""
    words = f"arch.activation={activation}", f"arch.norm={norm}", f"arch.boundary={boundary}"
    mlp = network((2,), 3, "arch=mlp", "arch.widths=[24,12]", *words)
    first, second, (_, last) = mlp.block.chain
    σ = getattr(torch, activation)
    x = torch.randn(5, 2)
    N = partial(F.batch_norm, running_mean=None, running_var=None, training=True) if norm else nn.Identity()
    raw = N(second.linear(σ(N(first.linear(x)))))
    assert mlp.layers == 3
    assert torch.allclose(mlp(x), last(σ(raw)), atol=1e-6)
    assert torch.allclose(mlp.cut(2, [2, 1])[0](x), σ(raw) if boundary == "after" else raw, atol=1e-6)


def test_where_an_mlp_is_cut_does_not_change_it():
    """Weights, their names and what the network computes are the same."""
    nets = []
    for boundary in ("after", "before"):
        torch.manual_seed(0)
        words = "arch=mlp", "arch.widths=[9,8,7]", "arch.norm=true", f"arch.boundary={boundary}"
        nets.append(network((1, 4, 4), 3, *words))
    x, (one, other) = torch.randn(5, 1, 4, 4), nets
    assert torch.equal(one(x), other(x))
    assert list(one.state_dict()) == list(other.state_dict())
    assert list(one.state_dict())[-1] == "block.chain.3.1.bias"


def test_mlp_without_hidden_layers_is_linear():
    assert network((1, 8, 8), 3, "arch=mlp", "arch.widths=[]").layers == 1


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_cnn_is_written_out(shape):
    """16 and 32 filters 5 × 5, batch norm, ReLU and max pooling, and a linear layer; any size of images."""
    torch.manual_seed(0)
    cnn = network(shape, 10, "arch=cnn")
    first, second, (_, last) = cnn.block.chain
    written = nn.Sequential(
        *(nn.Conv2d(shape[0], 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5, padding=2), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * (shape[1] // 4) * (shape[2] // 4), 10)),
    )
    written[0], written[4], written[9] = first.conv, second.conv, last
    x = torch.randn(6, *shape)
    assert cnn.layers == 3
    assert torch.allclose(cnn(x), written(x), atol=1e-6)
    assert torch.allclose(cnn.eval()(x), written.eval()(x), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "overrides", "message"),
    [
        (
            (2,),
            ["arch=cnn"],
            "arch=cnn needs images (channels, height, width); data gives 2 features: use arch=mlp",
        ),
        (
            (1, 8, 32),
            ["arch=cnn", "arch.filters=[4,4,4,4]"],
            "arch.filters=[4, 4, 4, 4] halves images 4 times, and those of the data have 8 × 32 pixels: "
            "list fewer arch.filters",
        ),
        ((2,), ["arch=mlp", "arch.widths=[8,0]"], "arch.widths=[8, 0] has a number below 1: a layer has at least one"),
        (
            (1, 8, 8),
            ["arch=cnn", "arch.filters=[0]"],
            "arch.filters=[0] has a number below 1: a layer has at least one",
        ),
    ],
)
def test_impossible_networks_are_refused(shape, overrides, message):
    assert refusal(lambda: network(shape, 3, *overrides)) == message
