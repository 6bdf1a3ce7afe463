"""A network of the user's own, in plain PyTorch: a function that returns its layers."""

import math
from collections import OrderedDict
from typing import Any, final

import torch
from torch import Tensor, nn

from costate.architectures.chain import Chain
from costate.architectures.network import Network
from costate.config import lookup
from costate.core.types import Shape

FEWER = "have arch.module return more modules"


@final
class Own(Network):
    """The modules that a function returns, one after the other; a stage may begin at any of them.

    Args:
        shape: of a sample; the function is given it, if it has a parameter `shape`.
        outputs: numbers that the last module gives; handed to parameters `outputs` and `classes`.
        module: package.module:function, which returns an nn.Sequential or a list of modules.
        settings: other arguments of the function.

    Raises:
        ValueError: there is no such function, it returns something else, or its modules do not go with the data: each
            takes one tensor (batch, ...) and gives one, the last one (batch, outputs).
    """

    def __init__(self, shape: Shape, outputs: int, *, module: str | None, settings: dict[str, Any] | None):
        given = {"shape": shape, "outputs": outputs, "classes": outputs}
        layers = sequential(f"arch.module={module}", lookup.call("arch", module, settings or {}, given))
        examine(f"arch.module={module}", layers, shape, outputs)
        super().__init__(Chain(layers), FEWER)


def sequential(told: str, found: Any) -> nn.Sequential:
    """The modules as a plain nn.Sequential, under the names that they have.

    Raises:
        ValueError: they are no sequence of modules.
    """
    wanted = "an nn.Sequential or a list of modules"
    if isinstance(found, nn.Sequential) and type(found).forward is not nn.Sequential.forward:
        raise ValueError(f"{told} returns {_named(found)}, whose forward is its own, and not {wanted}.")
    if not isinstance(found, nn.Sequential | nn.ModuleList | list | tuple):
        raise ValueError(f"{told} returns {_named(found)}, and not {wanted}.")
    modules = dict(found._modules) if isinstance(found, nn.Module) else {str(i): m for i, m in enumerate(found)}
    if not modules:
        raise ValueError(f"{told} returns no modules: a network has one layer or more.")
    for name, module in modules.items():
        if not isinstance(module, nn.Module):
            raise ValueError(f"{told} returns a list whose item {name} is {_named(module)}, and not {wanted}.")
    return nn.Sequential(OrderedDict(modules))


@torch.no_grad()
def examine(told: str, layers: nn.Sequential, shape: Shape, outputs: int) -> None:
    """Sends two samples of zeros through; modules that take their sizes from the first input get them here.

    Raises:
        ValueError: a module does not take what the one before it gives, or does not give a tensor of floats with a row
            a sample, or the last one not so many outputs.
    """
    modes = {module: module.training for module in layers.modules()}
    for module in modes:
        if getattr(module, "inplace", False) is True:
            # Written on a boundary, it would write on what the stage before has kept.
            module.inplace = False  # type: ignore[assignment]
    h: Any = torch.zeros(2, *shape)
    for name, layer in layers.eval()._modules.items():
        assert layer is not None, "modules alone"
        place, before, version = f"{told}: module {name} ({type(layer).__name__})", h, h._version
        try:
            h = layer(before)
        except Exception as error:  # whatever a user's forward comes to
            reason = " ".join(str(error).split())
            raise ValueError(f"{place} does not take a batch {tuple(before.shape)}: {reason}") from error
        if before._version != version:
            raise ValueError(f"{place} writes on what it is given, which is another stage's: have it make a copy.")
        if not isinstance(h, Tensor):
            raise ValueError(f"{place} gives {_named(h)}, and what goes down a boundary is one tensor: return that.")
        if not h.is_floating_point() or h.ndim == 0 or len(h) != 2:
            raise ValueError(
                f"{place} gives {h.dtype} {tuple(h.shape)} for two samples: a row of floats each is wanted."
            )
    if h.shape[1:] != (outputs,):
        raise ValueError(
            f"{told} gives {math.prod(h.shape[1:])} numbers a sample, as {tuple(h.shape)}, and the data asks for "
            f"{outputs}, as (batch, {outputs})."
        )
    for module, mode in modes.items():
        module.training = mode


def _named(thing: Any) -> str:
    kind = type(thing).__name__
    return kind if thing is None else f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"
