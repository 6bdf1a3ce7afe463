"""Small networks in float64, and what conf/ can build."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from torch import nn

from composing import CONF, options
from costate.architectures.antisymmetric import Antisymmetric
from costate.architectures.fields import ConvField, DenseField, Field
from costate.architectures.integrators import Integrator
from costate.architectures.leapfrog import Leapfrog
from costate.architectures.resnet import Resnet
from costate.architectures.stable import StableBlock
from costate.architectures.verlet import Verlet


def said(product: str) -> str:
    """The file of the architecture."""
    return (CONF / "arch" / f"{product.split()[0][5:]}.yaml").read_text()


INTEGRATORS: dict[str, Integrator] = {
    "resnet": Resnet(),
    "antisymmetric": Antisymmetric(gamma=0.3),
    "leapfrog": Leapfrog(half_start=False),
    "verlet": Verlet(half_start=False),
    "leapfrog, half start": Leapfrog(half_start=True),
    "verlet, half start": Verlet(half_start=True),
}
REVERSIBLE = {name: each for name, each in INTEGRATORS.items() if isinstance(each, Leapfrog | Verlet)}
STABLE = [name for name in options("arch") if "- form:" in (CONF / "arch" / f"{name}.yaml").read_text()]
PRODUCTS = [f"arch={a} arch/form={f}" for a in STABLE for f in options("arch/form")]
PRODUCTS += [f"arch={a}" for a in options("arch") if a not in STABLE]


def _small(product: str) -> str:
    """What has no default is chosen, and wide networks are made narrow."""
    own = " arch.module=own_network:layers" if "module: null" in said(product) else ""
    return product + own + (" arch.settings.width=4" if "\n  width:" in said(product) else "")


PRODUCTS = [_small(product) for product in PRODUCTS]
ONE_WAY = [product for product in PRODUCTS if "# Reversible" not in said(product) and "half_start" not in said(product)]
"""Those that cannot be run backwards: the others say so, or have a second field, which may start by half a step."""


def refusal(build: Callable[[], Any]) -> str:
    """The sentence of the ValueError that building ends in, out of Hydra's wrapping."""
    with pytest.raises((ValueError, InstantiationException)) as caught:
        build()
    error: BaseException | None = caught.value
    while isinstance(error, InstantiationException):
        error = error.__cause__
    assert isinstance(error, ValueError)
    return str(error)


def dense(layers: int, width: int, seed: int = 0, evaluations: int = 2, activation: str = "tanh") -> DenseField:
    """A field in float64 whose layers differ, with a bias."""
    torch.manual_seed(seed)
    return drawn(DenseField(torch.randn(layers, width, width), evaluations, activation, False))


def conv(layers: int, width: int, seed: int = 0, kernel: int = 3, activation: str = "tanh") -> ConvField:
    torch.manual_seed(seed)
    return drawn(ConvField(torch.randn(layers, width, width, kernel, kernel), 2, activation, False))


def drawn(field: Any) -> Any:
    nn.init.normal_(field.b)
    return field.double()


def block(field: Field, integrator: Integrator, T: float = 1.0, smoothness: float = 0.0) -> StableBlock:
    """Y at 0 to Y at T."""
    return StableBlock(nn.Identity(), field, nn.Identity(), integrator, T / len(field.K), smoothness)
