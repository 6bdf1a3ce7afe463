"""Prolongation: twice the layers over the same time; a function of time stays what it was, and so do cuts."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from composing import network
from costate.core.block import RULES, linear, prolong
from small import FORMED, INTEGRATORS, PRODUCTS, STABLE, TIMED, block, conv, dense

SHAPE, OUTPUTS, T = (2, 8, 8), 3, 2.0
PROLONGED = [f"{product} arch.norm=true" for product in PRODUCTS if product.split()[0][5:] in TIMED]
"""With all that a layer can hold."""
EVERY_RULE = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def build(product: str, *overrides: str):
    """In float64; whatever it holds is drawn, and differs from layer to layer."""
    torch.manual_seed(0)
    whole = network(SHAPE, OUTPUTS, *product.split(), "arch.width=4", f"arch.T={T}", *overrides).double()
    for tensor in whole.parameters():
        nn.init.uniform_(tensor, -0.5, 0.5)
    for tensor in whole.buffers():
        nn.init.uniform_(tensor, 0.5, 1.5)
    return whole.eval()


@EVERY_RULE
@pytest.mark.parametrize("product", PROLONGED)
@pytest.mark.parametrize("stages", [2, 4])
def test_prolonging_commutes_with_cutting(product, rule, stages):
    """Tensor by tensor, running statistics included: the stages that are prolonged are those of the prolonged one."""
    whole = build(product, "arch.depth=4")
    cut = whole.cut(stages)
    prolong(rule, cut)
    prolong(rule, [whole.block])
    for mine, hers in zip(cut, whole.cut(stages), strict=True):
        mine_state, hers_state = mine.state_dict(), hers.state_dict()
        assert mine_state.keys() == hers_state.keys()
        assert [name for name in mine_state if not torch.equal(mine_state[name], hers_state[name])] == []
        assert (mine.h, mine.layers) == (hers.h, hers.layers) == (T / 8, 8 // stages)


@EVERY_RULE
@pytest.mark.parametrize("product", PROLONGED)
def test_time_stays(product, rule):
    whole = build(product, "arch.depth=3")
    others = {name: tensor.clone() for name, tensor in whole.state_dict().items() if ".field." not in name}
    for layers in (6, 12):
        prolong(rule, [whole.block])
        assert whole.layers == layers
        assert sum(layer.h for layer in whole.block.steps()) == pytest.approx(T, rel=1e-15)
    assert all(torch.equal(whole.state_dict()[name], tensor) for name, tensor in others.items())


@pytest.mark.parametrize(
    ("arch", "form", "norm"), [*((*pair, "true") for pair in FORMED), *((arch, "dense", "false") for arch in STABLE)]
)
def test_a_net_that_is_constant_in_time_changes_by_order_h(arch, form, norm):
    """‖Y_{2n} − Y_n‖ falls as h, or faster where the integrator's order is higher; a constant is so by every rule."""
    depths, changes = np.array([16, 32, 64]), []
    torch.manual_seed(1)
    x = torch.randn(3, *SHAPE, dtype=torch.float64)
    whole = build(f"arch={arch} arch/form={form}", "arch.depth=1", f"arch.norm={norm}")
    one = whole.state_dict()
    for depth in depths:
        whole.load_state_dict({k: v.expand(depth, *v.shape[1:]) if ".field." in k else v for k, v in one.items()})
        before = whole(x)
        prolong(linear, [whole.block])
        changes.append((whole(x) - before).norm().item())
    slope, _ = np.polyfit(np.log(T / depths), np.log(changes), 1)
    assert slope > 0.9


@EVERY_RULE
@pytest.mark.parametrize("name", INTEGRATORS)
def test_weights_that_vary_in_time_stay_the_same_function_up_to_h_squared(name, rule):
    """Against the net whose weights are sampled at the finer times. Weights at left ends would be of order 1 alone."""
    one, two = dense(1, 4, seed=1), dense(1, 4, seed=2)
    Y = torch.randn(5, 4, dtype=torch.float64)

    def sampled(n: int):
        t = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        field = dense(n, 4)
        for θ, a, b in zip(field.parameters(), one.parameters(), two.parameters(), strict=True):
            s = t.view(-1, *(1,) * (θ.ndim - 1))
            θ.data = (torch.cos(2 * s) * a + s * b).detach()
        return block(field, INTEGRATORS[name], T)

    steps, errors = np.array([16, 32, 64]), []
    for n in steps:
        coarse = sampled(n)
        prolong(rule, [coarse])
        errors.append((coarse(Y) - sampled(2 * n)(Y)).norm().item())
    slope, _ = np.polyfit(np.log(T / steps), np.log(errors), 1)
    assert slope > 1.8


@EVERY_RULE
def test_a_fine_layer_has_half_the_gradient_of_a_coarse_one(rule):
    """∂ℓ/∂θ of the prolonged net is P(∂ℓ/∂θ)/2, up to O(h): so are the optimizer's averages prolonged."""
    depths, errors = np.array([16, 32, 64]), []
    one = dense(1, 4, seed=1)
    Y = torch.randn(5, 4, dtype=torch.float64)
    for n in depths:
        field = dense(n, 4)
        field.load_state_dict({"K": one.K.repeat(n, 1, 1), "b": one.b.repeat(n, 1)})
        net = block(field, INTEGRATORS["verlet"], T)
        net(Y).square().sum().backward()
        expected = rule(field.K.grad) / 2
        prolong(rule, [net])
        net(Y).square().sum().backward()
        errors.append(((field.K.grad - expected).norm() / expected.norm()).item())
    slope, _ = np.polyfit(np.log(T / depths), np.log(errors), 1)
    assert slope > 0.8
    assert errors[-1] < 0.05


def test_linear_is_linear_in_time():
    """Exact for a line, but for the outermost halves, beyond which nothing is known."""
    t = (torch.arange(4, dtype=torch.float64)[:, None] + 0.5) / 4
    fine = (torch.arange(8, dtype=torch.float64)[:, None] + 0.5) / 8
    assert torch.allclose(linear(3 * t + 1)[1:-1], (3 * fine + 1)[1:-1], atol=1e-15)
    assert torch.equal(linear(t)[[0, -1]], t[[0, -1]])
    assert all((a < b).all() for a, b in pairwise(linear(t)))


@pytest.mark.parametrize("make", [dense, conv])
def test_parameters_stay_the_same_objects_and_train_on(make):
    """A backward pass behind the prolongation leaves gradients of the new shape, whatever was there before."""
    net = block(make(2, 3), INTEGRATORS["leapfrog"], T)
    Y = torch.randn(4, 3, *(5, 5)[: net.field.K.ndim - 3], dtype=torch.float64)
    before = list(net.parameters())
    net(Y).square().sum().backward()
    prolong(linear, [net])
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert all(p.grad is None for p in net.parameters())
    net(Y).square().sum().backward()
    assert all(p.grad.shape == p.shape and len(p) == 4 for p in net.parameters())


@pytest.mark.parametrize("product", PROLONGED)
def test_a_network_takes_the_depth_of_the_weights_that_it_loads(product):
    deep = build(product, "arch.depth=6")
    shallow = build(product, "arch.depth=3")
    shallow.load_state_dict(copy.deepcopy(deep.state_dict()))
    x = torch.randn(3, *SHAPE, dtype=torch.float64)
    assert torch.equal(shallow(x), deep(x))
    assert (shallow.block.h, shallow.layers) == (deep.block.h, 6)


@pytest.mark.parametrize("product", [product for product in PRODUCTS if product.split()[0][5:] not in TIMED])
def test_layers_without_time_are_refused(product):
    torch.manual_seed(0)
    plain = network(SHAPE, OUTPUTS, *product.split())
    with pytest.raises(ValueError, match=r"have no time step, and cannot be prolonged"):
        prolong(linear, plain.cut(2))
