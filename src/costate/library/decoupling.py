"""A model of layers one behind the other, cut into stages with boundaries between them."""

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from costate.core.types import State
from costate.library.boundary import Boundary, Synthesizers


def decouple(
    model: nn.Module | Sequence[nn.Module],
    at: Iterable[int],
    *,
    classes: int | None = None,
    targets: int | None = None,
    shapes: Sequence[Sequence[int | None]] | None = None,
    synthesizer: Synthesizers | None = None,
    copies: int | None = None,
) -> "Decoupled":
    """Cuts a model in front of the layers with these numbers, so that no gradient crosses a cut.

    The layers are the model's own, not copies: the model itself goes on to work as it did, and is trained as well.
    `decouple(model, at=[2, 4], classes=10)` of six layers has the stages 0, 1 | 2, 3 | 4, 5.

    Args:
        model: the layers, an nn.Sequential, an nn.ModuleList or a list.
        at: numbers of the layers that begin a stage, rising, from 1 on.
        classes, targets: what the boundaries are told, see `Boundary`.
        shapes: of a sample's state at each cut; without them the first call tells.
        synthesizer: makes the synthesizer of each boundary, see `Boundary`; needs `shapes`.
        copies: batches from one copy of the layers behind each cut to the next: such a copy says what the gradient is,
            and there is no synthesizer. The loss is cross-entropy over classes, or the mean square of targets.

    Raises:
        ValueError: the model is no sequence of modules, or there are no such layers.
    """
    if not isinstance(model, nn.Sequential | nn.ModuleList | list | tuple):
        raise ValueError(
            f"decouple takes an nn.Sequential, an nn.ModuleList or a list of modules, not {type(model).__name__}: list "
            "its layers, or put a Boundary into its forward."
        )
    layers, cuts = list(model), list(at)
    if not layers or not all(isinstance(layer, nn.Module) for layer in layers):
        raise ValueError("decouple takes layers that are nn.Modules, and one of them at least.")
    if any(a >= b for a, b in pairwise([0, *cuts, len(layers)])):
        raise ValueError(
            f"at={cuts}: cuts are rising numbers from 1 to {len(layers) - 1}, for there are {len(layers)} layers."
        )
    if shapes is not None and len(shapes) != len(cuts):
        raise ValueError(f"There are {len(cuts)} cuts and {len(shapes)} shapes: give one for each cut.")
    each = [None] * len(cuts) if shapes is None else shapes
    if copies is None:
        made: list[Synthesizers | nn.Module | None] = [synthesizer] * len(cuts)
    elif synthesizer is not None:
        raise ValueError("A boundary asks a copy or a synthesizer: give copies=... or synthesizer=..., not both.")
    else:
        loss = None if targets is None else _square
        made = [Behind(layers[cut:], refresh=copies, loss=loss) for cut in cuts]
    boundaries = [Boundary(s, classes=classes, targets=targets, synthesizer=m) for s, m in zip(each, made, strict=True)]
    return Decoupled([layers[a:b] for a, b in pairwise([0, *cuts, len(layers)])], boundaries)


@final
class Decoupled(nn.Module):
    """Stages one behind the other, a boundary between each two of them.

    Args:
        stages: the layers of each.
        boundaries: one less.
    """

    def __init__(self, stages: Sequence[Sequence[nn.Module]], boundaries: Sequence[Boundary]):
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(*layers) for layers in stages)
        self.boundaries = nn.ModuleList(boundaries)

    def forward(self, x: Tensor, context: Tensor | None = None, scale: float = 1.0) -> Tensor:
        """The model's output; in training `context` are the labels that boundaries with classes need.

        Args:
            scale: what the loss is multiplied with beside the mean, see `Boundary.forward`.
        """
        for stage, boundary in zip(self.stages, self.boundaries, strict=False):
            x = boundary(stage(x), context, scale)
        return self.stages[-1](x)


Loss = Callable[[Tensor, Tensor], Tensor]


@final
class Behind(nn.Module):
    """A copy of the layers behind a boundary, asked for the gradient there, in place of a synthesizer.

        Φ̄    copy of the layers behind, of the last refresh       h -> output
        p_i = ∂ℓ_i(Φ̄(h_i), c_i)/∂h_i                              of each sample's own loss

    Nothing is learnt, and no error adds up from boundary to boundary; with refresh 1 p is the true gradient. A boundary
    takes it for its synthesizer: `Boundary(classes=10, synthesizer=Behind(layers, refresh=20))`.

    Args:
        layers: those behind the boundary, in their order; they are copied, and stay the model's own.
        refresh: calls from one copy to the next.
        loss: mean over the rows, of the output and of the context as numbers; None: cross-entropy over classes, which
            are the output's last axis or, as torch has it, its second one.

    Raises:
        ValueError: refresh is below 1.
    """

    calls: Tensor

    def __init__(self, layers: Sequence[nn.Module], *, refresh: int, loss: Loss | None = None):
        super().__init__()
        if refresh < 1:
            raise ValueError(f"refresh={refresh} is below 1: it is the number of batches from one copy to the next.")
        # In a tuple, so that they are not this module's too.
        self.live = (nn.Sequential(*layers),)
        self.copies = copy.deepcopy(self.live[0]).requires_grad_(False)
        self.refresh, self.loss = refresh, loss or _entropy
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, h: State, c: Tensor | None) -> State:
        """p, without a graph.

        Raises:
            ValueError: the boundary was told nothing.
        """
        if c is None:
            raise ValueError("A copy of what is behind needs the labels: give classes=... or targets=...")
        if self.calls % self.refresh == 0:
            self.copies.load_state_dict(self.live[0].state_dict())
        for live, copied in zip(self.live[0].modules(), self.copies.modules(), strict=True):
            # A norm may be frozen.
            copied.training = live.training
        self.calls += 1
        with torch.enable_grad():
            end = h.detach().requires_grad_()
            (g,) = torch.autograd.grad(self.loss(self.copies(end), c), end)
        return g * len(h)


def _entropy(output: Tensor, c: Tensor) -> Tensor:
    """Of all labels alike, of a sample one or one a token."""
    rows, second = c.flatten(0, -2), c.movedim(-1, 1).shape
    if c.ndim > 2 and output.shape == c.shape == second:
        raise ValueError(
            f"A copy of what is behind gives {tuple(output.shape)}, of which the second axis or the last one may be "
            "the classes: say which, Boundary(classes=..., synthesizer=Behind(layers, refresh=..., loss=...))."
        )
    if output.shape in (c.shape, rows.shape):
        return F.cross_entropy(output.reshape(rows.shape), rows.argmax(dim=-1))
    if output.shape != second:
        raise _misfit(output, c)
    return F.cross_entropy(output, c.argmax(dim=-1))


def _square(output: Tensor, c: Tensor) -> Tensor:
    """A single target may be without an axis of its own."""
    if output.shape not in (c.shape, c.flatten(0, -2).shape) and (c.shape[-1] != 1 or output.shape != c.shape[:-1]):
        raise _misfit(output, c)
    return F.mse_loss(output, c.reshape(output.shape))


def _misfit(output: Tensor, c: Tensor) -> ValueError:
    return ValueError(
        f"A copy of what is behind gives {tuple(output.shape)} for labels that are {tuple(c.shape)} as numbers: give "
        "the loss yourself, Boundary(..., synthesizer=Behind(layers, refresh=..., loss=...))."
    )
