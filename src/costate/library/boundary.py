"""A boundary for a plain PyTorch model: no gradient crosses it, and one backward pass trains both sides.

    h    state at the boundary, n rows              (n, *shape)
    c    the label as numbers, or nothing           (n, context)
    g    gradient of the loss at h, from behind     (n, *shape)
    s    what the loss is multiplied with beside the mean over these n rows
    p    prediction S(h, c) of the synthesizer S, on the scale of each sample's own loss

    forward     h
    backward    ĝ = s p / n goes to the stage in front
                ĝ − g goes to p, whose graph ends at h: ∂fit/∂p of fit = s/2 mean_i ‖p_i − n g_i / s‖²

So the gradients after `loss.backward()` are those of Σ_k ⟨h_k, ĝ_k⟩ + loss + Σ_k fit_k with every h_k detached
(Jaderberg et al., 2017, 1608.05343).
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter

from costate.core.types import State

Synthesizers = Callable[[tuple[Any, ...], int], nn.Module]


@final
class Boundary(nn.Module):
    """`h = boundary(h, context=y)` in a forward: what comes before learns from predicted gradients.

    In evaluation mode, and where no gradients are wanted, it is the identity. Between two calls it keeps its weights
    alone: it may be used several times in a forward, for several batches before a backward, and inside torch.compile.

    Args:
        shape: of a sample's state, of a sequence with any number of tokens; None where the first call is to tell, which
            makes the weights then.
        classes: number of classes, where the context is a label (n,) of integers.
        targets: numbers of a target, where the context is (n, targets).
        synthesizer: makes S, a module of h and c (or None), from `shape` and the width of c, as those of
            `costate.methods.synthetic_gradients` do; needs `shape`. Or S itself, such as `costate.Behind`. By default
            one dense layer for vectors, one along the features of sequences, one 5 × 5 convolution for images; all
            start at zero.

    Raises:
        ValueError: there are classes and targets, or a number below 1, or a synthesizer without a shape.
    """

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        *,
        classes: int | None = None,
        targets: int | None = None,
        synthesizer: Synthesizers | nn.Module | None = None,
    ):
        super().__init__()
        if classes is not None and targets is not None:
            raise ValueError("A boundary is told a label or a target: give classes or targets, not both.")
        for name, number in (("classes", classes), ("targets", targets)):
            if number is not None and number < 1:
                raise ValueError(f"{name}={number} is below 1: leave it out for a boundary that is told nothing.")
        self.classes, self.context = classes, classes or targets or 0
        self.shape = None if shape is None else tuple(shape)
        self.synthesizer: nn.Module
        if synthesizer is None:
            self.synthesizer = OneLayer(self.shape, self.context)
        elif isinstance(synthesizer, nn.Module):
            self.synthesizer = synthesizer
        elif self.shape is None:
            raise ValueError("A synthesizer of your own needs the shape of a sample's state: Boundary(shape, ...).")
        else:
            self.synthesizer = synthesizer(self.shape, self.context)

    def forward(self, h: State, context: Tensor | None = None, scale: float = 1.0) -> State:
        """h; the backward pass behaves as said above.

        Args:
            context: the labels or targets of the rows; not needed in evaluation mode.
            scale: s; 1/m for each of m batches whose gradients are added up, the scaler's factor under a GradScaler.

        Raises:
            ValueError: h has not the boundary's shape, or the context is not what the boundary was made for.
        """
        if not self.training or not torch.is_grad_enabled():
            return h
        self._check(h, scale)
        prediction = self.synthesizer(h.detach(), self._numbers(h, context))
        if prediction.shape != h.shape:
            raise ValueError(f"The synthesizer gives {tuple(prediction.shape)} for a state {tuple(h.shape)}.")
        return _Cut.apply(h, prediction, scale)

    def _check(self, h: Tensor, scale: float) -> None:
        if not h.is_floating_point():
            raise ValueError(f"A boundary takes states of real numbers, not {h.dtype}.")
        # Sequences may be longer or shorter from call to call.
        here, made = (s if s is None or len(s) != 2 else s[1:] for s in (tuple(h.shape[1:]), self.shape))
        if made is not None and here != made:
            raise ValueError(f"This boundary is for states of shape {self.shape}, not {tuple(h.shape[1:])}.")
        if not scale > 0:
            raise ValueError(f"scale={scale} is not above 0: it is what the loss is multiplied with.")

    def _numbers(self, h: Tensor, context: Tensor | None) -> Float[Tensor, "rows *tokens context"] | None:
        """c."""
        if not self.context:
            if context is not None:
                raise ValueError(
                    "This boundary is told nothing: make it with classes=... or targets=..., or no context."
                )
            return None
        if context is None:
            raise ValueError("In training this boundary needs the labels: boundary(h, context=y).")
        if len(context) != len(h):
            raise ValueError(f"The context has {len(context)} rows and the state {len(h)}.")
        c = _one_hot(context, self.classes) if self.classes else _plain(context, self.context)
        return c.to(h.dtype)


def _one_hot(y: Tensor, classes: int) -> Tensor:
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"A boundary with classes={classes} is told integers, not {y.dtype}.")
    # Looking at values waits for a GPU, and breaks a compiled graph in two.
    looks = not torch.compiler.is_compiling() and y.device.type == "cpu" and y.numel() > 0
    if looks and not 0 <= y.min() <= y.max() < classes:
        raise ValueError(f"Labels from {y.min()} to {y.max()} do not go with classes={classes}.")
    return F.one_hot(y.long(), classes)


def _plain(y: Tensor, targets: int) -> Tensor:
    if y.ndim < 2 or y.shape[-1] != targets:
        raise ValueError(f"A boundary with targets={targets} is told (rows, {targets}) numbers, not {tuple(y.shape)}.")
    return y


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(h: Tensor, prediction: Tensor, scale: float) -> Tensor:
        # A tensor of its own: whoever changes it in place changes nothing in front of the boundary.
        return h.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Apart from `forward`, as torch.func wants it."""
        h, prediction, scale = inputs
        ctx.save_for_backward(prediction)
        ctx.scale, ctx.dtype = scale, h.dtype

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (p,), (g,) = ctx.saved_tensors, gradients
        predicted = p * (ctx.scale / max(len(p), 1))
        return predicted.to(ctx.dtype), predicted - g.to(p.dtype), None


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
    """The synthesizer of a boundary that was given none, p = [h, c] A + a, zero at first.

    h is a vector (n, features), a sequence (n, tokens, features), along whose features the layer runs, or an image (n,
    channels, height, width), for which it is a 5 × 5 convolution; c is (n, context), or (n, tokens, context).

    Args:
        shape: of a sample's state; None: A and a get their shapes from the first state.
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
