"""Layers that are run backwards: the state in front of a block from the one behind it."""

import copy

import pytest
import torch
from torch import nn

from composing import network
from costate.architectures.coupling import Coupling
from costate.architectures.integrators import one_way
from small import PRODUCTS, REBUILT, REVERSIBLE, STABLE, block, dense, normed, refusal, turned

SHAPE, OUTPUTS, BATCH = (2, 8, 8), 3, 6


def build(product: str, *overrides: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return network(SHAPE, OUTPUTS, *product.split(), *overrides)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(("norm", "half"), [(True, False), (False, True)])
def test_inverse_undoes_the_layers_of_each_stage_or_is_refused(product, norm, half):
    """From the first block, which has the opening, to the last, which has the head; in training and in evaluation."""
    whole = build(" ".join(turned(product, half)), *normed(product, norm)).double()
    if not whole.block.reversible:
        h = torch.randn(BATCH, 8)
        assert refusal(lambda: whole.block.inverse(h)) == one_way()
        assert refusal(lambda: whole.block.retrace(h, None)) == one_way()
        return
    for training in (True, False):
        x = torch.randn(BATCH, *SHAPE, dtype=torch.float64)
        for k, part in enumerate(whole.train(training).cut(3)):
            assert part.reversible
            start = part.open(x).detach() if k == 0 else x
            x = end = part.propagate(start)[-1].detach()
            # Layers of a user's own may be some that can be undone behind some that cannot.
            if product in REBUILT or not part.opens:
                assert not torch.allclose(end, start, atol=1e-2)
                assert torch.allclose(part.inverse(end), start, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", REVERSIBLE)
def test_inverse_of_64_layers(name):
    whole = block(dense(64, 4), REVERSIBLE[name], T=8.0)
    start = torch.randn(5, 8, dtype=torch.float64)
    assert torch.allclose(whole.inverse(whole.propagate(start)[-1]), start, rtol=0, atol=1e-9)


def test_running_statistics_stand_still_on_the_way_back():
    whole = build("arch=verlet", "arch.norm=true").block
    h = torch.randn(BATCH, 128)
    before = copy.deepcopy(list(whole.buffers()))
    whole.inverse(h)
    assert all(map(torch.equal, before, whole.buffers()))
    whole.propagate(h)
    assert not any(map(torch.equal, before, whole.buffers()))


def test_the_networks_that_are_proposed_are_those_of_conf():
    names = [name for name in STABLE if name in REVERSIBLE]
    assert one_way().endswith(f"cannot be run backwards: choose arch={' or '.join(names)}.")


def gradients(whole: torch.nn.Module, x: torch.Tensor, stages: int = 2) -> dict[str, torch.Tensor]:
    """Of a loss, by all stages one behind the other: of the samples, and of every parameter."""
    x = x.clone().requires_grad_()
    h = x
    parts = whole.cut(stages)
    for part in parts:
        h = part(h)
    h.float().square().sum().backward() if h.dtype == torch.bfloat16 else h.square().sum().backward()
    found = {f"{k}/{name}": p.grad for k, part in enumerate(parts) for name, p in part.named_parameters()}
    buffers = {f"{k}/{name}": buffer for k, part in enumerate(parts) for name, buffer in part.named_buffers()}
    return {"x": x.grad, "output": h.detach(), **found, **buffers}


def both(product: str, *overrides: str, dtype: torch.dtype = torch.float64) -> list[torch.nn.Module]:
    """The network that stores, and the same one that rebuilds; layers differ."""
    nets = []
    for rebuilds in ("false", "true"):
        whole = build(product, *overrides, f"arch.reversible={rebuilds}").to(dtype)
        for parameter in whole.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        nets.append(whole)
    nets[1].load_state_dict(nets[0].state_dict())
    return nets


@pytest.mark.parametrize("product", REBUILT)
@pytest.mark.parametrize(
    ("norm", "half", "activation"), [("false", False, "tanh"), ("true", True, "tanh"), ("true", False, "relu")]
)
def test_rebuilt_gradients_are_those_of_stored_states(product, norm, half, activation):
    """Of samples and parameters, to rounding; outputs and running statistics bit for bit, so each batch counts once."""
    settings = f"arch.norm={norm}", f"arch.activation={activation}", "arch.depth=6"
    stores, rebuilds = both(" ".join(turned(product, half)), *settings)
    x = torch.randn(BATCH, *SHAPE, dtype=torch.float64)
    expected, found = gradients(stores, x), gradients(rebuilds, x)
    assert torch.equal(found["output"], expected["output"])
    for name, g in expected.items():
        assert (found[name] - g).norm() <= 1e-11 * (1 + g.norm()), name
        assert not name.endswith((".mean", ".var")) or torch.equal(found[name], g), name


@pytest.mark.parametrize("arch", [name for name in STABLE if name in REVERSIBLE])
def test_rebuilt_gradients_of_64_layers_in_float32(arch):
    """As the main job has them at its start; the largest relative error of a parameter's gradient."""
    product = f"arch={arch}"
    stores, rebuilds = (build(product, "arch.depth=64", f"arch.reversible={value}") for value in ("false", "true"))
    x = torch.randn(64, *SHAPE)
    expected, found = gradients(stores, x), gradients(rebuilds, x)
    errors = {name: ((found[name] - g).norm() / g.norm()).item() for name, g in expected.items()}
    assert max(errors.values()) < 1e-3, errors


@pytest.mark.parametrize("product", REBUILT)
def test_rebuilt_gradients_under_autocast(product):
    """States are in float32, fields in bfloat16, on the way back too."""
    stores, rebuilds = both(product, "arch.depth=6", dtype=torch.float32)
    x = torch.randn(BATCH, *SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = gradients(stores, x), gradients(rebuilds, x)
    exact = gradients(stores, x)
    for name, g in expected.items():
        assert found[name].dtype == g.dtype
        rounding = (g - exact[name]).norm()
        assert (found[name] - g).norm() <= rounding, "further apart than bfloat16 is from float32"


def test_half_precision_is_refused():
    whole = build("arch=verlet", "arch.reversible=true").bfloat16()
    sentence = refusal(lambda: whole(torch.randn(BATCH, *SHAPE, dtype=torch.bfloat16)))
    assert "use trainer.precision=bf16-mixed or 32-true" in sentence


@pytest.mark.parametrize("arch", [name for name in STABLE if name not in REVERSIBLE])
def test_reversible_networks_need_reversible_layers(arch):
    sentence = refusal(lambda: build(f"arch={arch}", "arch.reversible=true"))
    assert sentence == f"arch.reversible=true: {one_way()}"


def test_weights_that_have_stepped_since_are_an_error():
    """Today's weights would rebuild other states than there were."""
    whole = build("arch=verlet", "arch.reversible=true")
    loss = whole(torch.randn(BATCH, *SHAPE)).square().sum()
    with torch.no_grad():
        whole.block.field.K.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_weights_that_do_not_learn_have_no_gradient():
    stores, rebuilds = both("arch=verlet", "arch.depth=4")
    x, found = torch.randn(BATCH, *SHAPE, dtype=torch.float64), []
    for whole in (stores, rebuilds):
        whole.block.field.K.requires_grad_(False)
        whole(x).square().sum().backward()
        assert whole.block.field.K.grad is None
        found.append(whole.block.opening[1].weight.grad)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_a_coupling_is_undone_by_its_inverse():
    torch.manual_seed(0)
    layer, x = Coupling(nn.Sequential(nn.Linear(3, 3), nn.Tanh())).double(), torch.randn(5, 6, dtype=torch.float64)
    assert torch.allclose(layer.inverse(layer(x)), x, rtol=0, atol=1e-12)
    assert not torch.allclose(layer(x), x)
