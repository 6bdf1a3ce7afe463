"""Layers that are run backwards: what their steps are differentiated by is their derivative, stored or rebuilt."""

import pkgutil
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn

import costate.architectures
from composing import network, refusal
from costate.architectures.chain import Coupling
from costate.architectures.fields import Composed, Field, Layer
from costate.architectures.integrators import Integrator, Reversible, Shear, Verlet, one_way
from costate.architectures.stable import StableBlock
from small import INTEGRATORS, PRODUCTS, REBUILT, REVERSIBLE, STABLE, block, conv, dense, tokens, turned

SHAPE, OUTPUTS, BATCH = (2, 6, 6), 3, 6


def build(product: str, *overrides: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return network(SHAPE, OUTPUTS, *product.split(), *overrides)


@pytest.mark.parametrize("product", PRODUCTS)
def test_layers_that_cannot_be_run_backwards_are_refused(product):
    whole = build(product).block
    if not whole.reversible:
        assert refusal(lambda: whole.retrace(torch.randn(BATCH, 8), None)) == one_way()


def back(part: torch.nn.Module, end: torch.Tensor) -> torch.Tensor:
    """The state in front of a block's layers, as the backward pass rebuilds it."""
    x, h = part.retrace(end, None)
    h.backward(torch.zeros_like(h))
    return x.detach()


@pytest.mark.parametrize("name", REVERSIBLE)
def test_back_over_64_layers(name):
    whole = block(dense(64, 4), REVERSIBLE[name], T=8.0).slice(1, 63)
    start = torch.randn(5, 8, dtype=torch.float64)
    assert torch.allclose(back(whole, whole(start).detach()), start, rtol=0, atol=1e-9)


def test_the_networks_that_are_proposed_are_those_of_conf():
    names = [name for name in STABLE if name in REVERSIBLE]
    assert one_way().endswith(f"cannot be run backwards: choose arch={' or '.join(names)}.")


def through(whole: torch.nn.Module, x: torch.Tensor, stages: int = 2) -> dict[str, torch.Tensor]:
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
    expected, found = through(stores, x), through(rebuilds, x)
    assert torch.equal(found["output"], expected["output"])
    # Leapfrog's force on tokens is the sum of two functions and grows: 1.1e-11.
    rounding = 1e-10 if product == "arch=leapfrog arch/form=tokens" else 1e-11
    for name, g in expected.items():
        assert (found[name] - g).norm() <= rounding * (1 + g.norm()), name
        assert not name.endswith((".mean", ".var")) or torch.equal(found[name], g), name


@pytest.mark.parametrize("arch", [name for name in STABLE if name in REVERSIBLE])
def test_rebuilt_gradients_of_64_layers_in_float32(arch):
    """As the main job has them at its start; the largest relative error of a parameter's gradient."""
    product = f"arch={arch}"
    stores, rebuilds = (build(product, "arch.depth=64", f"arch.reversible={value}") for value in ("false", "true"))
    x = torch.randn(64, *SHAPE)
    expected, found = through(stores, x), through(rebuilds, x)
    errors = {name: ((found[name] - g).norm() / g.norm()).item() for name, g in expected.items()}
    assert max(errors.values()) < 1e-3, errors


@pytest.mark.parametrize("product", REBUILT)
def test_rebuilt_gradients_under_autocast(product):
    """States are in float32, fields in bfloat16, on the way back too."""
    stores, rebuilds = both(product, "arch.depth=6", dtype=torch.float32)
    x = torch.randn(BATCH, *SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = through(stores, x), through(rebuilds, x)
    exact = through(stores, x)
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


WIDTH, LAYERS = 4, 5
FIELDS = {"dense": (dense, (BATCH, 2 * WIDTH)), "conv": (conv, (BATCH, 2 * WIDTH, 3, 5))}
TOKENS = {"tokens": (tokens, (BATCH, 2 * 3, WIDTH))}


ODD = {
    "sum": lambda layer: lambda y: layer.dual(y) + 0.1 * layer.f(y),
    "product": lambda layer: lambda y: layer.f(y) * y,
    "longer chain": lambda layer: Composed(layer.f, layer.force, torch.sin),
    "constant": lambda layer: torch.ones_like,
}
"""What a part of a step may be."""


class Odd(Reversible):
    """Weights of its own making, and a part that is one of the odd ones."""

    evaluations = 2

    def __init__(self, name: str):
        self.f = ODD[name]

    def weights(self, field: Field) -> Tensor:
        return 2 * field.skew(0.1)

    def shears(self, layer: Layer) -> tuple[Shear, ...]:
        odd = Shear(0, 1, layer.h, self.f(layer))
        return Shear(1, 0, -layer.kick, layer.dual), odd, Shear(1, 0, layer.h, layer.f)


class Skewed(Verlet):
    """Verlet with weights of its own making."""

    def weights(self, field: Field) -> Tensor:
        return 2 * field.skew(0.0)


class Broken(Skewed):
    """A step that is not the one that its shears tell of."""

    def step(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        Y, Z = super().step(state, layer)
        return Y + 0.1 * layer.h * Z, Z


TWO_WAY = REVERSIBLE | {"weights of its own": Skewed(half_start=False)} | {name: Odd(name) for name in ODD}


def gradients(integrator: Integrator, form: str, way: str) -> dict[str, Tensor]:
    """Of everything that a stage in the middle of a network learns from, and of its input, in float64."""
    make, shape = (FIELDS | TOKENS)[form]
    stage = StableBlock(None, make(LAYERS, WIDTH), None, integrator, 0.3, 0.0, rebuilds=way == "rebuilt")
    torch.manual_seed(1)
    x, g = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    h = stage(x)
    if way == "retraced":
        x, h = stage.retrace(h.detach(), None)
    h.backward(g)
    return {"state": x.detach(), "input": x.grad, **{name: p.grad for name, p in stage.named_parameters()}}


def worst(integrator: Integrator, form: str, way: str) -> float:
    """The largest relative difference from autograd through states that are stored."""
    expected, found = gradients(integrator, form, "stored"), gradients(integrator, form, way)
    assert expected.keys() == found.keys()
    return max(((found[name] - g).norm() / g.norm()).item() for name, g in expected.items())


def test_every_integrator_is_in_conf():
    """So that what is found there is all there is."""
    for module in pkgutil.iter_modules(costate.architectures.__path__, "costate.architectures."):
        import_module(module.name)
    families, concrete = [Integrator], set()
    while families:
        each = families.pop()
        ours = [inner for inner in each.__subclasses__() if inner.__module__.startswith("costate.")]
        families += ours
        concrete |= set() if ours else {each}
    assert concrete == {type(each) for each in INTEGRATORS.values()}


@pytest.mark.parametrize("way", ["rebuilt", "retraced"])
@pytest.mark.parametrize(
    ("name", "form"),
    [*((name, form) for name in TWO_WAY for form in FIELDS), *((name, "tokens") for name in REVERSIBLE)],
)
def test_the_reversed_pass_is_the_derivative(name, form, way):
    assert worst(TWO_WAY[name], form, way) < 1e-10


@pytest.mark.parametrize("way", ["rebuilt", "retraced"])
def test_a_pass_that_is_not_the_derivative_does_not_pass(way):
    assert worst(Broken(half_start=False), "dense", way) > 1e-3


@pytest.mark.parametrize("name", TWO_WAY)
def test_under_autocast_states_are_rebuilt_by_the_fields_that_made_them(name):
    """Back to the input, to float32's rounding: a float32 field is off by bfloat16's."""
    stage = StableBlock(None, dense(LAYERS, WIDTH).float(), None, TWO_WAY[name], 0.3, 0.0)
    x = torch.randn(BATCH, 2 * WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        h = stage(x).detach()
        again, end = stage.retrace(h, None)
    end.backward(torch.ones_like(h))
    assert torch.allclose(again.detach(), x, rtol=0, atol=1e-4)
