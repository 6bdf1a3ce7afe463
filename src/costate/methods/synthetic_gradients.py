"""Synthetic gradients: stages update at once, under g as an interface predicts it, and the nets that it predicts by.

    ĝ = S(h, c)                          S: synthesizer; c: the label as numbers, (batch, context), or None
    g used  = λ g + (1 − λ) γ ĝ          λ = 0: decoupled; 0 < λ ≤ 1 has to wait for the true g
    fit     = 1/2 mean_i ‖ĝ_i − g_i‖²    over the samples i of a batch

Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients, equations 6 and 7 and supplement A.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from costate.config.settings import Count, Share, Size
from costate.core.block import Block
from costate.core.interface import Learning
from costate.core.method import Method
from costate.core.schedules import Event, decoupled, locked
from costate.core.tasks import Task
from costate.core.types import Context, Labels, Shape, State
from costate.methods.compression import Compress, compressed


class Synthesizer(nn.Module, ABC):
    """Predicts each sample's gradient from its state and, where conditioned, from its label.

    The last layer starts at zero, so an untrained synthesizer answers ĝ = 0.
    """

    @abstractmethod
    def forward(self, h: State, c: Context | None) -> State: ...


class Synthetic(Learning):
    """Answers what a synthesizer predicts, or a mixture of that and the gradient that arrived.

    Args:
        synthesizer: S, on the scale of each sample's own loss.
        task: tells the label to S; None leaves S unconditioned.
        mixed: λ at batch n, the share of what has arrived.
        discount: γ; below 1 it keeps errors from growing where each target has a prediction in it.
    """

    def __init__(
        self, synthesizer: Synthesizer, task: Task | None, mixed: Callable[[int], float], discount: float = 1.0
    ):
        super().__init__()
        self.synthesizer, self.task, self.mixed, self.discount = synthesizer, task, mixed, discount

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        share = self.mixed(n)
        if share == 0:
            return self.predict(h, y)
        assert arrived is not None, "a share of the true gradient needs a schedule that waits for it"
        return arrived if share == 1 else torch.lerp(self.predict(h, y), arrived, share)

    @torch.no_grad()
    def predict(self, h: State, y: Labels) -> Tensor:
        """γ ĝ, of the batch's mean loss."""
        return self.synthesizer(h, self._context(y)).to(h.dtype) * self.discount / len(h)

    def fit(self, h: State, y: Labels, target: State) -> Float[Tensor, ""]:
        # Detached here, so that the regression never reaches the network, wherever h comes from.
        prediction = self.synthesizer(h.detach(), self._context(y))
        g = target.detach() * len(h)
        self.last = (prediction.detach(), g)
        return F.mse_loss(prediction, g, reduction="sum") / (2 * len(h))

    def _context(self, y: Labels) -> Context | None:
        return None if self.task is None else self.task.describe(y)


class Linear(Synthesizer):
    """ĝ = [h, c] A + a."""

    def __init__(self, shape: Shape, context: int):
        super().__init__()
        features = torch.Size(shape).numel()
        self.layer = _zero(nn.Linear(features + context, features))

    def forward(self, h: State, c: Context | None) -> Tensor:
        return self.layer(_row(h, c)).view_as(h)


class LowRank(Synthesizer):
    """ĝ = ([h, c] U) A + a with U of so many columns: on a wide state, `Linear` costs as much as several layers."""

    def __init__(self, shape: Shape, context: int, *, rank: Count):
        super().__init__()
        features = torch.Size(shape).numel()
        self.net = nn.Sequential(nn.Linear(features + context, rank, bias=False), _zero(nn.Linear(rank, features)))

    def forward(self, h: State, c: Context | None) -> Tensor:
        return self.net(_row(h, c)).view_as(h)


class Mlp(Synthesizer):
    """ĝ = [h, c] through `layers` hidden layers with batch norm and ReLU; the paper's for MNIST has 1024-1024."""

    def __init__(self, shape: Shape, context: int, *, layers: Count, width: Count):
        super().__init__()
        features = torch.Size(shape).numel()
        widths = [features + context] + [width] * layers
        parts: list[nn.Module] = []
        for a, b in pairwise(widths):
            # Batch statistics alone: a synthesizer is only ever asked about training batches.
            parts += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b, track_running_stats=False), nn.ReLU()]
        self.net = nn.Sequential(*parts, _zero(nn.Linear(width, features)))

    def forward(self, h: State, c: Context | None) -> Tensor:
        with _normed("mlp", "linear"):
            return self.net(_row(h, c)).view_as(h)


class Conv(Synthesizer):
    """ĝ = [h, c] through `layers` hidden convolutions with batch norm and ReLU; c enters as constant channels.

    Raises:
        ValueError: the state at the boundary is no image.
    """

    def __init__(self, shape: Shape, context: int, *, layers: Size, channels: Count, kernel: Count):
        super().__init__()
        _images("conv", shape)
        conv = partial(nn.Conv2d, kernel_size=kernel, padding="same")
        widths = [shape[0] + context] + [channels] * layers
        parts: list[nn.Module] = []
        for a, b in pairwise(widths):
            parts += [conv(a, b, bias=False), nn.BatchNorm2d(b, track_running_stats=False), nn.ReLU()]
        self.net = nn.Sequential(*parts, _zero(conv(widths[-1], shape[0])))

    def forward(self, h: State, c: Context | None) -> Tensor:
        if c is not None:
            channels = c[:, :, None, None].expand(-1, -1, *h.shape[2:])
            h = torch.cat([h, channels.to(h.dtype)], dim=1)
        with _normed("conv", "pooled"):
            return self.net(h)


class Pooled(Synthesizer):
    """ĝ = D h + Pᵀ([P h, c] A + a): means P over pool × pool regions, each value to its pixels; D at every pixel.

    What a head that reads such means asks for, at a fraction of a layer's cost.

    Raises:
        ValueError: the state at the boundary is no image.
    """

    def __init__(self, shape: Shape, context: int, *, pool: Count):
        super().__init__()
        _images("pooled", shape)
        channels, *sides = shape
        self.pool = min(pool, *sides)
        features = channels * self.pool**2
        self.local = _zero(nn.Conv2d(channels, channels, 1, bias=False))
        self.layer = _zero(nn.Linear(features + context, features))

    def forward(self, h: State, c: Context | None) -> Tensor:
        means = F.adaptive_avg_pool2d(h, self.pool)
        regions = self.layer(_row(means, c)).view_as(means)
        return self.local(h) + F.interpolate(regions, size=h.shape[2:])


class Suited(Synthesizer):
    """`Conv` where the state is an image, `Linear` where it is a vector."""

    def __init__(self, shape: Shape, context: int, *, layers: Size, channels: Count, kernel: Count):
        super().__init__()
        if len(shape) == 3:
            self.net: Synthesizer = Conv(shape, context, layers=layers, channels=channels, kernel=kernel)
        else:
            self.net = Linear(shape, context)

    def forward(self, h: State, c: Context | None) -> Tensor:
        return self.net(h, c)


@contextmanager
def _normed(name: str, other: str) -> Iterator[None]:
    """Says what torch's batch norm means by its complaint, which is always the same."""
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"method/synthesizer={name} has batch norm, a mean over the batch, and this batch has one value of each "
            f"channel: raise data.batch_size or use method/synthesizer={other}."
        ) from error


def _images(name: str, shape: Shape) -> None:
    if len(shape) != 3:
        raise ValueError(
            f"method/synthesizer={name} needs images at the boundaries, here they hold {shape[0]} features: "
            "use method/synthesizer=linear or mlp."
        )


def _row(h: Tensor, c: Tensor | None) -> Tensor:
    row = h.flatten(1)
    return row if c is None else torch.cat([row, c.to(row.dtype)], dim=1)


def _zero(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


@dataclass(kw_only=True, eq=False)
class SyntheticGradients(Method):
    """Synthetic interfaces; decoupled, but locked while a share of the true gradient is used.

    Args:
        conditioned: whether synthesizers read the label beside the state.
        warmup_steps: batches at the start for which stages use true gradients, while the synthesizers already learn.
        mix: λ, the share of the true gradient after that; 0 is decoupled, 1 is backpropagation.
        synthesizer: makes a synthesizer for a shape and a number of label entries.
        compress: what is sent of a gradient: all of it, signs with one size a sample, or its largest entries.
        share: of the entries, where the largest are sent.
        discount: γ, what is used of a prediction.
    """

    in_time = True
    conditioned: bool
    warmup_steps: Size
    mix: Share
    synthesizer: Callable[[Shape, int], Synthesizer]
    compress: Compress = "none"
    share: Share = 1.0
    discount: Share = 1.0

    def __post_init__(self) -> None:
        self.sent = compressed(self.compress, self.share)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Synthetic:
        synthesizer = self.synthesizer(shape, task.context if self.conditioned else 0)
        return Synthetic(synthesizer, task if self.conditioned else None, self.mixed, self.discount)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return (locked if self.mixed(n) > 0 else decoupled)(stages, n, lag)

    def mixed(self, n: int) -> float:
        """λ at batch n."""
        return 1.0 if n < self.warmup_steps else self.mix
