"""Plain networks, without a time step: those of the DNI paper, and for pictures functions that return modules.

Of the latter, `chain.Own` makes networks, as it does of a user's own.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from costate.architectures.chain import Chain, Coupling
from costate.architectures.norm import Norm
from costate.config.settings import Count
from costate.core.block import Network
from costate.core.types import Shape

Images = Float[Tensor, "batch channels height width"]
Smaller = Float[Tensor, "batch more h w"]


def dense(features: int, width: int, norm: bool, front: nn.Module, behind: nn.Module) -> nn.Sequential:
    """Y ← σ(N(Y K + b)), images are flattened; or, where boundaries lie before σ, Y ← N(σ(Y) K + b).

    Args:
        front: σ of the layer before, or the identity.
        behind: its own σ, or the identity.
    """
    parts = OrderedDict(front=front, flat=nn.Flatten(), linear=nn.Linear(features, width))
    return nn.Sequential(OrderedDict(parts, norm=Norm(1, width) if norm else nn.Identity(), behind=behind))


def conv(channels: int, filters: int, kernel: int, norm: bool) -> nn.Sequential:
    """Convolution, batch norm, ReLU, and the maximum over 2 × 2 pixels."""
    parts = OrderedDict[str, nn.Module](conv=nn.Conv2d(channels, filters, kernel, padding="same"))
    parts["norm"] = Norm(1, filters) if norm else nn.Identity()
    return nn.Sequential(OrderedDict(parts, relu=nn.ReLU(), pool=nn.MaxPool2d(2)))


@final
class Mlp(Network):
    """Dense layers, and a linear one at the end (Jaderberg et al., 2017, section 3.1).

    Args:
        shape: of a sample; images are flattened.
        outputs: numbers that the last layer gives.
        widths: of the hidden layers.
        activation: σ.
        norm: whether there is batch norm in front of each σ.
        boundary: whether a stage ends after a σ or before it. Behind the latter a synthesizer that knows no labels has
            more to tell: in front of a linear layer at its optimum no linear function of h correlates with g.

    Raises:
        ValueError: if a width is below 1.
    """

    def __init__(
        self,
        shape: Shape,
        outputs: int,
        *,
        widths: list[int],
        activation: Literal["relu", "tanh", "sigmoid"],
        norm: bool,
        boundary: Literal["after", "before"],
    ):
        sizes = [math.prod(shape), *at_least_one("arch.widths", widths)]
        σ, none = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[activation](), nn.Identity()
        behind = σ if boundary == "after" else none
        fronts = [none, *[none if boundary == "after" else σ] * len(widths)]
        hidden = [dense(a, b, norm, front, behind) for (a, b), front in zip(pairwise(sizes), fronts, strict=False)]
        last = nn.Sequential(nn.Sequential(fronts[-1], nn.Flatten()), nn.Linear(sizes[-1], outputs))
        super().__init__(Chain(nn.Sequential(*hidden, last)), "list more arch.widths")


@final
class Cnn(Network):
    """Convolutional layers that halve the image, and a linear one at the end (Jaderberg et al., 2017, section 3.1).

    Args:
        shape: of a sample, (channels, height, width).
        outputs: numbers that the last layer gives.
        filters: of the convolutional layers.
        kernel: size of the filters.
        norm: whether there is batch norm in front of each ReLU.

    Raises:
        ValueError: if samples are no images or too small to be halved so often, or if a number of filters is below 1.
    """

    def __init__(self, shape: Shape, outputs: int, *, filters: list[int], kernel: Count, norm: bool):
        sizes = [channels_of("cnn", shape), *at_least_one("arch.filters", filters)]
        height, width = (side >> len(filters) for side in shape[1:])
        if height == 0 or width == 0:
            raise ValueError(
                f"arch.filters={list(filters)} halves images {len(filters)} times, and those of the data have "
                f"{shape[1]} × {shape[2]} pixels: list fewer arch.filters"
            )
        hidden = [conv(a, b, kernel, norm) for a, b in pairwise(sizes)]
        last = nn.Sequential(nn.Flatten(), nn.Linear(sizes[-1] * height * width, outputs))
        super().__init__(Chain(nn.Sequential(*hidden, last)), "list more arch.filters")


def at_least_one(setting: str, sizes: list[int]) -> list[int]:
    """The sizes, if there is none below 1."""
    if any(size < 1 for size in sizes):
        raise ValueError(f"{setting}={list(sizes)} has a number below 1: a layer has at least one")
    return sizes


def channels_of(arch: str, shape: Shape) -> int:
    """The channels of pictures.

    Raises:
        ValueError: samples are none.
    """
    if len(shape) != 3:
        raise ValueError(
            f"arch={arch} needs images (channels, height, width); data gives {math.prod(shape)} features: use arch=mlp"
        )
    return shape[0]


def resnet18(shape: Shape, outputs: int, width: int = 64) -> nn.Sequential:
    """Eight blocks of torchvision's resnet18 behind a 3 × 3 convolution, which leaves small pictures their size.

    He et al. (2016), Deep residual learning, 1512.03385.
    """
    return _resnet(channels_of("resnet18", shape), outputs, width, 4, 2, projection)


def resnet32(shape: Shape, outputs: int, width: int = 16) -> nn.Sequential:
    """Fifteen blocks in three groups, shortcuts without parameters (the same, section 4.2; 0.46 million parameters)."""
    return _resnet(channels_of("resnet32", shape), outputs, width, 3, 5, Padding)


def revnet18(shape: Shape, outputs: int, width: int = 64) -> nn.Sequential:
    """As resnet18, on two halves of the channels, each of its widths; all blocks but those with strides can be undone.

    Gomez et al. (2017), 1707.04585; as a chain of couplings: Rivaud et al. (2025), 2406.02052.
    """
    layers: list[nn.Module] = [_stem(channels_of("revnet18", shape), 2 * width)]
    for i in range(4):
        if i > 0:
            layers.append(Narrowing(width, 2 * width))
            width = 2 * width
        layers += [Coupling(_residual(width, width, 1)) for _ in range(2 if i == 0 else 1)]
    end = nn.BatchNorm2d(2 * width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, outputs)
    return _drawn(nn.Sequential(*layers, nn.Sequential(*end)))


def projection(before: int, width: int, stride: int) -> nn.Module:
    """A shortcut by a 1 × 1 convolution (He et al., 2016, option B)."""
    return nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class Padding(nn.Module):
    """A shortcut without parameters: every stride-th pixel, channels of zeros beside (He et al., 2016, option A)."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.more, self.stride = width - before, stride

    def forward(self, x: Images) -> Smaller:
        front = self.more // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.more - front))


class Narrowing(nn.Module):
    """(a, b) ← (S b, S′ a + F(b)) with 1 × 1 convolutions S, S′; all take every other pixel: nothing undoes that."""

    def __init__(self, before: int, width: int):
        super().__init__()
        self.shortcut = nn.Sequential(
            nn.Conv2d(2 * before, 2 * width, 1, 2, groups=2, bias=False), nn.BatchNorm2d(2 * width)
        )
        self.residual = _residual(before, width, 2)

    def forward(self, x: Images) -> Smaller:
        a, b = self.shortcut(x).chunk(2, dim=1)
        return torch.cat([b, a + self.residual(x.chunk(2, dim=1)[1])], dim=1)


def _resnet(
    channels: int, outputs: int, width: int, groups: int, blocks: int, shortcut: Callable[[int, int, int], nn.Module]
) -> nn.Sequential:
    """Groups of so many blocks; each but the first halves the picture and doubles the width with its first block."""
    layers: list[nn.Module] = [_stem(channels, width)]
    for i in range(groups):
        if i > 0:
            layers.append(BasicBlock(width, 2 * width, 2, shortcut(width, 2 * width, 2)))
            width = 2 * width
        layers += [BasicBlock(width, width) for _ in range(blocks if i == 0 else blocks - 1)]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs))
    return _drawn(nn.Sequential(*layers, head))


def _stem(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def _residual(before: int, width: int, stride: int) -> nn.Sequential:
    """Batch norm and ReLU in front of each of two convolutions (He et al., 2016, 1603.05027)."""
    three = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(
        *(nn.BatchNorm2d(before), nn.ReLU(), three(before, width, stride=stride)),
        *(nn.BatchNorm2d(width), nn.ReLU(), three(width, width)),
    )


def _drawn(network: nn.Sequential) -> nn.Sequential:
    """Convolutions are drawn as in He et al. (2015), 1502.01852."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def vgg8b(shape: Shape, outputs: int, width: int = 128, dropout: float = 0.0) -> nn.Sequential:
    """Six convolutions and two dense layers, a module each; 8.9 million parameters for pictures of 32 × 32.

    Nøkland & Eidnes (2019), Training neural networks with local error signals, 1901.06656, appendix A. Pictures whose
    sides are no multiples of 16 keep their borders.

    Args:
        width: of the first convolution.
        dropout: share of values that a hidden layer leaves out in training.
    """
    before, layers = channels_of("vgg8b", shape), []
    for times, pools in ((1, False), (2, True), (2, False), (4, True), (4, True), (4, True)):
        parts = [nn.Conv2d(before, times * width, 3, padding=1), nn.BatchNorm2d(times * width), nn.ReLU()]
        pooling = [nn.MaxPool2d(2, ceil_mode=True)] if pools else []
        layers.append(nn.Sequential(*parts, *pooling, nn.Dropout2d(dropout)))
        before = times * width
    height, breadth = (-(-side // 16) for side in shape[1:])
    hidden = [nn.Flatten(), nn.Linear(before * height * breadth, 8 * width), nn.BatchNorm1d(8 * width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Sequential(*hidden, nn.Dropout(dropout)), nn.Linear(8 * width, outputs))
