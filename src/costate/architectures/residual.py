"""Residual networks for small pictures, as lists of plain modules: a stem, a module for each residual block, a head."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import costate.compat  # noqa: F401  (before torchvision)

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from costate.architectures.coupling import Coupling
from costate.architectures.images import channels_of
from costate.core.types import Shape

Images = Float[Tensor, "batch channels height width"]
Smaller = Float[Tensor, "batch more h w"]


class Group(NamedTuple):
    """Blocks of one width, the first of which takes every stride-th pixel."""

    width: int
    blocks: int
    stride: int


def resnet18(shape: Shape, outputs: int, width: int = 64) -> nn.Sequential:
    """Eight blocks of torchvision's resnet18 behind a 3 × 3 convolution, which leaves small pictures their size.

    He et al. (2016), Deep residual learning, 1512.03385.
    """
    groups = [Group(width, 2, 1), *(Group(2**i * width, 2, 2) for i in (1, 2, 3))]
    return _resnet(channels_of("resnet18", shape), outputs, groups, projection)


def resnet32(shape: Shape, outputs: int, width: int = 16) -> nn.Sequential:
    """Fifteen blocks in three groups, shortcuts without parameters (the same, section 4.2; 0.46 million parameters)."""
    groups = [Group(width, 5, 1), Group(2 * width, 5, 2), Group(4 * width, 5, 2)]
    return _resnet(channels_of("resnet32", shape), outputs, groups, Padding)


def revnet18(shape: Shape, outputs: int, width: int = 64) -> nn.Sequential:
    """As resnet18, on two halves of the channels, each of its widths; all blocks but those with strides can be undone.

    Gomez et al. (2017), 1707.04585; as a chain of couplings: Rivaud et al. (2025), 2406.02052.
    """
    before = 2 * width
    layers: list[nn.Module] = [_stem(channels_of("revnet18", shape), before)]
    for i in range(4):
        half = 2**i * width
        layers.append(Coupling(_residual(half, half, 1)) if before == 2 * half else Narrowing(before // 2, half))
        layers.append(Coupling(_residual(half, half, 1)))
        before = 2 * half
    end = nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs)
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
    channels: int, outputs: int, groups: Sequence[Group], shortcut: Callable[[int, int, int], nn.Module]
) -> nn.Sequential:
    before = groups[0].width
    layers: list[nn.Module] = [_stem(channels, before)]
    for width, blocks, stride in groups:
        for step in (stride, *[1] * (blocks - 1)):
            same = step == 1 and before == width
            layers.append(BasicBlock(before, width, step, None if same else shortcut(before, width, step)))
            before = width
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs))
    return _drawn(nn.Sequential(*layers, head))


def _stem(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def _residual(before: int, width: int, stride: int) -> nn.Sequential:
    """Batch norm and ReLU in front of each of two convolutions (He et al., 2016, 1603.05027)."""
    conv = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(
        *(nn.BatchNorm2d(before), nn.ReLU(), conv(before, width, stride=stride)),
        *(nn.BatchNorm2d(width), nn.ReLU(), conv(width, width)),
    )


def _drawn(network: nn.Sequential) -> nn.Sequential:
    """Convolutions are drawn as in He et al. (2015), 1502.01852."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
