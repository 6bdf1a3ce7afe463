"""The synthesizer of a boundary that was given none: one layer, p = [h, c] A + a, zero at first.

h is a vector (n, features), a sequence (n, tokens, features), along whose features the layer runs, or an image (n,
channels, height, width), for which it is a 5 × 5 convolution; c is (n, context), or (n, tokens, context).
"""

import warnings
from typing import Any, NoReturn, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter

KERNEL = 5
WEIGHTLESS = (
    "A boundary that was not told its shape has no weights before its first call: give it, Boundary(shape) or "
    "decouple(..., shapes=...), or pass a batch through the model before weights are counted, averaged or shared out."
)


class Unmade(UninitializedParameter):
    """A weight before the first state has told its shape."""

    def bfloat16(self) -> Any:
        """Torch forgets this one among the precisions that a lazy weight may be given."""
        return self.to(torch.bfloat16)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return super().__torch_function__(func, types, args, kwargs or {})
        except ValueError as error:
            raise ValueError(WEIGHTLESS) from error

    @property
    def shape(self) -> NoReturn:  # type: ignore[override]
        raise ValueError(WEIGHTLESS)


@final
class OneLayer(LazyModuleMixin, nn.Module):
    """A and a get their shapes from the first state, if they are not known before.

    Args:
        shape: of a sample's state, or None.
        context: width of c.
    """

    cls_to_become = None

    def __init__(self, shape: tuple[Any, ...] | None, context: int):
        with warnings.catch_warnings():
            # Torch says of each lazy module that they are a new feature.
            warnings.simplefilter("ignore")
            super().__init__()
        self.context = context
        self.weight: Any = Unmade()
        self.bias: Any = Unmade()
        if shape is not None:
            self._make(shape)

    def initialize_parameters(self, h: Tensor, c: Tensor | None) -> None:
        """Called by torch at the first call."""
        if self.has_uninitialized_params():
            self._make(tuple(h.shape[1:]))

    @torch.no_grad()
    def _make(self, shape: tuple[Any, ...]) -> None:
        if len(shape) not in (1, 2, 3):
            raise ValueError(f"No synthesizer is known for states of shape {shape}: give the boundary one of your own.")
        features = shape[0] if len(shape) == 3 else shape[-1]
        filters = (KERNEL, KERNEL) if len(shape) == 3 else ()
        for parameter, size in ((self.weight, (features, features + self.context, *filters)), (self.bias, (features,))):
            assert isinstance(parameter, UninitializedParameter)
            parameter.materialize(size)
            parameter.zero_()

    def forward(self, h: Float[Tensor, "n ..."], c: Tensor | None) -> Float[Tensor, "n ..."]:
        x = h if c is None else torch.cat([h, _beside(h, c)], dim=1 if h.ndim == 4 else -1)
        return (
            F.conv2d(x, self.weight, self.bias, padding="same") if h.ndim == 4 else F.linear(x, self.weight, self.bias)
        )


def _beside(h: Tensor, c: Tensor) -> Tensor:
    """c at each token or pixel."""
    c = c.to(h.dtype)
    if h.ndim == 4:
        return c[:, :, None, None].expand(-1, -1, *h.shape[2:])
    return c[:, None].expand(-1, h.shape[1], -1) if h.ndim == 3 and c.ndim == 2 else c
