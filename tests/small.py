"""Small networks in float64, and what conf/ can build."""

from typing import Any

import torch
from hydra.utils import get_class, instantiate
from torch import nn

from composing import config, options, words
from costate.architectures.fields import Field
from costate.architectures.forms import ConvField, DenseField
from costate.architectures.integrators import Integrator, Reversible
from costate.architectures.recurrent import Recurrent
from costate.architectures.stable import StableBlock
from costate.architectures.tokens import TokenField
from costate.config.composing import having

NODES = {name: config(*words("arch", name)).arch for name in options("arch")}
RECURRENT = [name for name, node in NODES.items() if issubclass(get_class(node["_target_"]), Recurrent)]
"""Cut in time, and not in depth."""
ARCHS = {name: node for name, node in NODES.items() if name not in RECURRENT}
TIMED = [name for name, node in ARCHS.items() if "integrator" in node]
"""Layers are steps in time."""
STABLE = [name for name in TIMED if name in having("arch", "integrator").split(",")]
"""The integrators of conf/arch; of the others each has one of theirs, with other settings."""


def integrators() -> dict[str, Integrator]:
    """Those of conf/arch, as their files have them, and with each of their switches turned on."""
    found = {}
    for name in STABLE:
        node = ARCHS[name].integrator
        found[name] = instantiate(node)
        found |= {f"{name}, {switch}": instantiate(node, **{switch: True}) for switch in switches(name)}
    return found


def switches(arch: str) -> list[str]:
    """The settings of its integrator that are true or false."""
    return [key for key, value in ARCHS[arch].integrator.items() if isinstance(value, bool)]


def turned(product: str, on: bool) -> list[str]:
    """A product with all switches of its integrator on or off."""
    arch = product.split()[0].removeprefix("arch=")
    keys = switches(arch) if arch in STABLE else []
    return [*product.split(), *(f"arch.integrator.{key}={str(on).lower()}" for key in keys)]


def normed(product: str, on: bool) -> list[str]:
    """Batch norm on or off, where that can be chosen."""
    return [f"arch.norm={str(on).lower()}"] if "norm" in ARCHS[product.split()[0].removeprefix("arch=")] else []


INTEGRATORS = integrators()
REVERSIBLE = {name: each for name, each in INTEGRATORS.items() if isinstance(each, Reversible)}
FORMED = [(a, f) for a in STABLE for f in options("arch/form") if (a, f) != ("antisymmetric", "tokens")]
"""What goes together."""
PRODUCTS = [f"arch={a} arch/form={f}" for a, f in FORMED]
PRODUCTS += [" ".join(words("arch", a)) for a in ARCHS if a not in STABLE]
REBUILT = [f"arch={a} arch/form={f}" for a, f in FORMED if a in REVERSIBLE]
"""Products whose states can be rebuilt, by arch.reversible=true."""


def dense(layers: int, width: int, seed: int = 0, evaluations: int = 2, activation: str = "tanh") -> DenseField:
    """A field in float64 whose layers differ, with a bias."""
    torch.manual_seed(seed)
    return drawn(DenseField(torch.randn(layers, width, width), evaluations, activation, False))


def conv(layers: int, width: int, seed: int = 0, kernel: int = 3, activation: str = "tanh") -> ConvField:
    torch.manual_seed(seed)
    return drawn(ConvField(torch.randn(layers, width, width, kernel, kernel), 2, activation, False))


def tokens(layers: int, width: int, seed: int = 0, pair: bool = True) -> TokenField:
    torch.manual_seed(seed)
    field = drawn(TokenField(layers, width, 2, width, pair, "tanh", True))
    for stack in field.parameters():
        stack.data += 0.3 * torch.randn_like(stack)
    return field


def drawn(field: Any) -> Any:
    nn.init.normal_(field.b)
    return field.double()


def block(field: Field, integrator: Integrator, T: float = 1.0, smoothness: float = 0.0) -> StableBlock:
    """Y at 0 to Y at T."""
    return StableBlock(nn.Identity(), field, nn.Identity(), integrator, T / len(field.K), smoothness)
