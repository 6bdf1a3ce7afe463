"""Functions of a vector, their restrictions to affine sets, and which variables belong to which worker.

x   point in Rⁿ, a flat tensor
v   point of an affine set, in its own coordinates: v = (u, c)
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

Value = Float[Tensor, ""]
Vector = Float[Tensor, " n"]


class Objective(ABC):
    """A differentiable f: Rⁿ → R; the same x gives the same bits."""

    @abstractmethod
    def value(self, x: Vector) -> Value:
        """f(x)."""

    @abstractmethod
    def gradient(self, x: Vector) -> tuple[Value, Vector]:
        """f(x) and ∇f(x)."""

    def sample(self, i: int) -> "Objective":
        """What a solver's step i takes for f: f itself, unless it is a mean of which a part will do."""
        return self


@final
class Restriction(Objective):
    """v = (u, c) ↦ f(x with u in place of its own variables + Σ_k s_k c_k d_k).

    Args:
        own: where in x the own variables are.
        directions: (where in x, d_k there), apart from the own variables.
        scales: s; None: 1.
    """

    def __init__(
        self,
        f: Objective,
        x: Vector,
        own: Sequence[slice],
        directions: Sequence[tuple[slice, Tensor]],
        scales: Tensor | None = None,
    ):
        self.f, self.x, self.own, self.directions = f, x, own, directions
        self.sizes = [part.stop - part.start for part in own]
        self.scales = x.new_ones(len(directions)) if scales is None else scales

    def start(self) -> Float[Tensor, " m"]:
        """The v of x itself."""
        return torch.cat([*(self.x[part] for part in self.own), self.x.new_zeros(len(self.directions))])

    def coefficients(self, v: Float[Tensor, " m"]) -> Float[Tensor, " directions"]:
        """s c."""
        return self.scales * v[sum(self.sizes) :]

    def point(self, v: Float[Tensor, " m"]) -> Vector:
        """The x of v."""
        z = self.x.clone()
        for part, u in zip(self.own, v.split([*self.sizes, len(self.directions)]), strict=False):
            z[part] = u
        for (part, d), coefficient in zip(self.directions, self.coefficients(v), strict=True):
            z[part].addcmul_(coefficient, d)
        return z

    def value(self, x: Float[Tensor, " m"]) -> Value:
        return self.f.value(self.point(x))

    def gradient(self, x: Float[Tensor, " m"]) -> tuple[Value, Float[Tensor, " m"]]:
        value, g = self.f.gradient(self.point(x))
        along = [s * (g[part] * d).sum()[None] for s, (part, d) in zip(self.scales, self.directions, strict=True)]
        return value, torch.cat([*(g[part] for part in self.own), *along])

    def sample(self, i: int) -> Objective:
        part = self.f.sample(i)
        return self if part is self.f else Restriction(part, self.x, self.own, self.directions, self.scales)


@final
class Record(Objective):
    """f, with a memory of the point of least value among those that it was asked for; NaN is no value.

    Attributes:
        least: the value, and where: None before the first finite one.
        asked: how often f was evaluated.
    """

    def __init__(self, f: Objective):
        self.f = f
        self.least: tuple[float, Tensor] | None = None
        self.asked = 0

    def value(self, x: Vector) -> Value:
        value = self.f.value(x)
        self._note(value, x)
        return value

    def gradient(self, x: Vector) -> tuple[Value, Vector]:
        value, g = self.f.gradient(x)
        self._note(value, x)
        return value, g

    def sample(self, i: int) -> Objective:
        part = self.f.sample(i)
        return self if part is self.f else part

    def _note(self, value: Tensor, x: Tensor) -> None:
        self.asked += 1
        number = value.item()
        if number < (float("inf") if self.least is None else self.least[0]):
            self.least = number, x.detach().clone()


@final
class Blocks:
    """x = (x_1, ..., x_p, s): worker l owns x_l and s.

    Args:
        sizes: of x_1, ..., x_p.
        shared: size of s, the variables that every worker owns.
    """

    def __init__(self, sizes: Sequence[int], shared: int = 0):
        ends = list(accumulate(sizes, initial=0))
        self.size = ends[-1] + shared
        self._blocks = [slice(start, end) for start, end in pairwise(ends)]
        self._shared = slice(ends[-1], self.size)

    def __len__(self) -> int:
        return len(self._blocks)

    def own(self, l: int) -> list[slice]:
        """What worker l minimises over."""
        return [part for part in (self._blocks[l], self._shared) if part.stop > part.start]

    def others(self, l: int) -> list[tuple[int, slice]]:
        """The numbers of the other blocks, and where in x they are."""
        return [(k, part) for k, part in enumerate(self._blocks) if k != l and part.stop > part.start]
