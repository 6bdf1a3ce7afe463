"""The contract of integrators: what their steps are differentiated by is their derivative, stored or rebuilt."""

import pkgutil
from importlib import import_module

import pytest
import torch
from torch import Tensor

import costate.architectures
from costate.architectures.fields import Field, Layer
from costate.architectures.integrators import Integrator, Reversible, Shear
from costate.architectures.stable import StableBlock
from costate.architectures.verlet import Verlet
from small import INTEGRATORS, REVERSIBLE, conv, dense

WIDTH, LAYERS, BATCH = 4, 5, 6
FIELDS = {"dense": (dense, (BATCH, 2 * WIDTH)), "conv": (conv, (BATCH, 2 * WIDTH, 3, 5))}


ODD = {
    "sum": lambda layer, y: layer.transposed(y) + 0.1 * layer.adjoint(y),
    "product": lambda layer, y: layer(y) * y,
    "changed in between": lambda layer, y: layer.activation(layer.affine(y, layer.K, layer.b).mul_(0.5)),
    "changed at its end": lambda layer, y: layer.affine(y, layer.K, layer.b).mul_(0.5),
    "other weights": lambda layer, y: layer.activation(layer.affine(y, layer.K * layer.K.mean(), layer.b)),
    "other bias": lambda layer, y: layer.affine(y, layer.Kt, 2 * layer.b),
    "longer chain": lambda layer, y: layer.adjoint(layer.transposed(layer(y))),
    "forgotten": lambda layer, y: (layer(y), layer.affine(y, layer.K, None))[0],
    "constant": lambda layer, y: torch.ones_like(y),
}
"""What a part of a step may be, chains of a layer's maps and others."""


class Odd(Reversible):
    """Weights of its own making, and a part that is one of the odd ones."""

    evaluations = 2

    def __init__(self, name: str):
        self.f = ODD[name]

    def weights(self, field: Field) -> Tensor:
        return 2 * field.skew(0.1)

    def shears(self, layer: Layer) -> tuple[Shear, ...]:
        odd = Shear(0, 1, layer.h, lambda y: self.f(layer, y))
        return Shear(1, 0, -layer.kick, layer.transposed), odd, Shear(1, 0, layer.h, layer)


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
    make, shape = FIELDS[form]
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
        families += each.__subclasses__()
        if each.__module__.startswith("costate.") and not each.__abstractmethods__:
            concrete.add(each)
    assert concrete == {type(each) for each in INTEGRATORS.values()}


@pytest.mark.parametrize("way", ["rebuilt", "retraced"])
@pytest.mark.parametrize("form", FIELDS)
@pytest.mark.parametrize("name", TWO_WAY)
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
