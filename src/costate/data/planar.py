"""Small problems in the plane: the classification sets of Haber & Ruthotto (2017), and a lumpy surface to regress.

A point is x = (x₁, x₂); r and θ are its polar coordinates. Nothing is noisy: labels are functions of the points.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from costate.config.settings import Count
from costate.core.tasks import Classification, Regression, Task
from costate.core.types import Labels
from costate.data.batches import Rows, generator
from costate.data.memory import InMemory, Parts


@dataclass(kw_only=True, eq=False)
class Planar(InMemory, ABC):
    """Points in the plane, drawn by a seed and divided into disjoint parts: `train`, `validation`, `test` of them."""

    kind: ClassVar[Task]
    train: Count
    validation: Count
    test: Count

    def __post_init__(self) -> None:
        self.describe((2,), self.kind)

    @abstractmethod
    def points(self, n: int, random: torch.Generator) -> tuple[Float[Tensor, "n 2"], Labels]:
        """n points, no two alike, in any order, and their labels."""

    def read(self) -> Parts:
        random, sizes = generator(self.seed), [self.train, self.validation, self.test]
        x, y = self.points(sum(sizes), random)
        order = torch.randperm(len(y), generator=random).split(sizes)
        return Parts(*(Rows(x[part], y[part]) for part in order))


def _uniform(n: int, low: float, high: float, random: torch.Generator) -> Float[Tensor, " n"]:
    return low + (high - low) * torch.rand(n, generator=random, dtype=torch.float64)


def _polar(r: Float[Tensor, " n"], theta: Float[Tensor, " n"], flat: float = 1.0) -> Float[Tensor, "n 2"]:
    return torch.stack([r * theta.cos(), flat * r * theta.sin()], 1).float()


class Ellipse(Planar):
    """Two concentric ellipses, x = (r cos θ, 0.4 r sin θ): class 0 has r in [0, 0.9], class 1 has r in [1.1, 2].

    After Haber & Ruthotto (2017), section 6.1; the gap between the classes is ours.
    """

    kind = Classification(2)

    def points(self, n: int, random: torch.Generator) -> tuple[Float[Tensor, "n 2"], Labels]:
        y = torch.arange(n) % 2
        r = 0.9 * _uniform(n, 0, 1, random) + 1.1 * y
        return _polar(r, _uniform(n, 0, 2 * math.pi, random), flat=0.4), y


class SwissRoll(Planar):
    """Two spirals, x = (t + 0.2 y)(cos 4πt, sin 4πt) for class y and evenly spaced t in [0, 1].

    Haber & Ruthotto (2017), section 6.2. Points of the parts alternate at random along the curves.
    """

    kind = Classification(2)

    def points(self, n: int, random: torch.Generator) -> tuple[Float[Tensor, "n 2"], Labels]:
        y = torch.arange(n) % 2
        t = torch.linspace(0, 1, n, dtype=torch.float64)
        return _polar(t + 0.2 * y, 4 * math.pi * t), y


class Peaks(Planar):
    """Five classes: equal intervals of MATLAB's `peaks` on [−3, 3]², equally many points of each.

    z = 3 (1 − x₁)² exp(−x₁² − (x₂+1)²) − 10 (x₁/5 − x₁³ − x₂⁵) exp(−x₁² − x₂²) − ⅓ exp(−(x₁+1)² − x₂²)

    Haber & Ruthotto (2017), section 6.3: the intervals divide the range of z on a grid of 256 × 256.
    """

    kind = Classification(5)

    def points(self, n: int, random: torch.Generator) -> tuple[Float[Tensor, "n 2"], Labels]:
        axis = torch.linspace(-3, 3, 256, dtype=torch.float64)
        z = peaks(torch.cartesian_prod(axis, axis))
        levels = torch.linspace(z.min().item(), z.max().item(), 6, dtype=torch.float64)[1:-1]
        wanted = torch.bincount(torch.arange(n) % 5, minlength=5)
        x, y = torch.empty(0, 2), torch.empty(0, dtype=torch.long)
        while (torch.bincount(y, minlength=5) < wanted).any():
            more = _uniform(2 * 8192, -3, 3, random).float().view(-1, 2)
            x = torch.cat([x, more])
            y = torch.cat([y, torch.bucketize(peaks(more.double()), levels)])
        keep = torch.cat([torch.nonzero(y == k)[: wanted[k], 0] for k in range(5)])
        return x[keep], y[keep]


def peaks(x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """MATLAB's `peaks`."""
    a, b = x.unbind(1)
    return (
        3 * (1 - a) ** 2 * torch.exp(-(a**2) - (b + 1) ** 2)
        - 10 * (a / 5 - a**3 - b**5) * torch.exp(-(a**2) - b**2)
        - torch.exp(-((a + 1) ** 2) - b**2) / 3
    )


class Surface(Planar):
    """A lumpy function on the plane: regress z from points drawn uniformly from [−1, 1]².

    k = 0.3 (sin θ + 1);  z = k sin(4r² − r/4) + (1−k)/2 · sin 2θ sin θ + (1−k)/2 · cos 6(θ + 0.1)
    """

    kind = Regression(1)

    def points(self, n: int, random: torch.Generator) -> tuple[Float[Tensor, "n 2"], Labels]:
        x = _uniform(2 * n, -1, 1, random).float().view(n, 2)
        return x, surface(x.double()).float()[:, None]


def surface(x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """The height z over points of the plane."""
    r, theta = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    k = 0.3 * (theta.sin() + 1)
    lumps = (2 * theta).sin() * theta.sin() + (6 * (theta + 0.1)).cos()
    return k * (4 * r**2 - r / 4).sin() + (1 - k) / 2 * lumps
