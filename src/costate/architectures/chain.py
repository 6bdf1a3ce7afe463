"""A chain: modules one after the other, each of them a layer, whatever they are.

    S_j   state behind layer j;  λ gradient of the loss there;  θ weights of a layer, f the layer

    on the way back    S_{j−1} = f⁻¹(S_j; θ);   λ_{j−1} = (∂f/∂S)ᵀ λ_j;   g_θ = (∂f/∂θ)ᵀ λ_j     at S_{j−1}

A layer with a method `inverse` that undoes its `forward`, and keeps the state's shape, can be run backwards. Behind the
last layer that cannot, a chain rebuilds its states from its end; what is in front of that is run once more from the
input (Gomez et al., 2017, 1707.04585).
"""

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.block import Block
from costate.architectures.integrators import one_way
from costate.architectures.restrict import Coarsening

UNTIMED = "layers that are modules of their own have no time step, and cannot be prolonged"


@final
class Chain(Block):
    """Modules one after the other; a slice keeps their names.

    Args:
        layers: in the order of the forward pass.
        reversible: whether the network can run backwards wherever states are large; None: if any of the layers can.
    """

    def __init__(self, layers: nn.Sequential, reversible: bool | None = None):
        super().__init__()
        self.chain = layers
        self._reversible = any(map(_two_way, layers)) if reversible is None else reversible

    @property
    def layers(self) -> int:
        return len(self.chain)

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        return self.chain(x)

    def open(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        return x

    def propagate(self, h: Float[Tensor, "batch ..."]) -> list[Float[Tensor, "batch ..."]]:
        return list(itertools.accumulate(self.chain, lambda x, layer: layer(x), initial=h))[1:]

    @property
    def reversible(self) -> bool:
        return self._reversible

    @property
    def opens(self) -> bool:
        return self._front > 0

    @property
    def _front(self) -> int:
        """The layers up to the last one that cannot be run backwards."""
        return max((j + 1 for j, layer in enumerate(self.chain) if not _two_way(layer)), default=0)

    def inverse(self, h: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        if self.opens:
            raise ValueError(one_way())
        for layer in reversed(list(self.chain)):
            with still(layer):
                h = _inverse(layer, h)
        return h

    def retrace(
        self, h: Float[Tensor, "batch ..."], x: Float[Tensor, "batch ..."] | None
    ) -> tuple[Float[Tensor, "batch ..."], Float[Tensor, "batch ..."]]:
        if not self.reversible:
            raise ValueError(one_way())
        tail = list(self.chain)[self._front :]
        weights = [p for layer in tail for p in layer.parameters()]
        if x is None:
            assert not self.opens, "what cannot be run backwards needs its input"
            x = torch.empty_like(h).requires_grad_()
            return x, _Retraced.apply(tail, h, x.detach(), x, *weights)
        with still(self):
            start = self.chain[: self._front](x)
        return x, _Retraced.apply(tail, h, None, start, *weights) if tail else start

    def penalty(self) -> None:
        return None

    def ending(self) -> list[nn.Parameter]:
        return list(self.chain[-1].parameters())

    def slice(self, start: int, end: int) -> "Chain":
        part: Any = self.chain[start:end]
        return Chain(copy.deepcopy(part), self.reversible)

    def coarser(self, rule: Coarsening) -> int:
        if rule.factor > 1:
            raise ValueError(f"{UNTIMED}, nor made coarser: choose method.factor=1, copies of all layers.")
        return self.layers

    def coarse(self, rule: Coarsening) -> "Chain":
        self.coarser(rule)
        return copy.deepcopy(self)

    def stand_for(self, block: Block) -> None:
        pass

    def join(self, behind: Block) -> None:
        pass

    def stacks(self) -> NoReturn:
        raise ValueError(UNTIMED)

    def refine(self, stacks: Sequence[Tensor]) -> NoReturn:
        raise ValueError(UNTIMED)


@contextmanager
def still(module: nn.Module) -> Iterator[None]:
    """Running statistics are the same afterwards: a batch that is seen once more moves them no second time."""
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(module.buffers(), before, strict=True):
            # By way of `data`, so that graphs which refer to the buffer stay valid.
            buffer.data.copy_(value)


def _two_way(layer: nn.Module) -> bool:
    return callable(getattr(layer, "inverse", None))


def _inverse(layer: Any, h: Tensor) -> Tensor:
    return layer.inverse(h)


class _Retraced(torch.autograd.Function):
    """The end of layers as a function of their start, of which nothing but the end is known."""

    @staticmethod
    def forward(
        ctx: Any, layers: list[nn.Module], end: Tensor, into: Tensor | None, start: Tensor, *_: Tensor
    ) -> Tensor:
        ctx.layers, ctx.into, device = layers, into, end.device.type
        ctx.autocast = torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        ctx.save_for_backward(end)
        return end.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (state,), (λ,) = ctx.saved_tensors, gradients
        found: list[Tensor | None] = []
        for layer in reversed(ctx.layers):
            weights = list(layer.parameters())
            with still(layer), ctx.autocast:
                state = _inverse(layer, state).detach()
                with torch.enable_grad():
                    source = state.requires_grad_()
                    end = layer(source)
            λ, *own = torch.autograd.grad(end, [source, *weights], λ, allow_unused=True)
            found = [*own, *found]
            state = state.detach()
        if ctx.into is not None:
            ctx.into.copy_(state)
        return None, None, None, λ, *found
