"""Functions of a vector, their restrictions to affine sets, who owns which variables, and inexact solvers.

x   point in Rⁿ, a flat tensor
v   point of an affine set, in its own coordinates: v = (u, c)
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from costate.config.settings import Count, Rate

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


class Solver(ABC):
    """Goes down from a point for a while."""

    @abstractmethod
    def minimise(self, f: Objective, v: Float[Tensor, " m"], rate: float = 1.0) -> tuple[float, Tensor] | None:
        """The least value of f that was met, and where; None if there was no finite one.

        Args:
            v: where to start.
            rate: factor on the solver's own rate, if it has one.
        """

    @abstractmethod
    def unit(self, d: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The direction, as long as lets the solver treat its coefficient as it treats any other variable."""


@final
class Adam(Solver):
    """Adam from zero moments (Kingma & Ba, 2015).

    Args:
        steps: number of steps.
        lr: rate.
    """

    def __init__(self, *, steps: Count, lr: Rate):
        self.steps, self.lr = steps, lr

    def minimise(self, f: Objective, v: Float[Tensor, " m"], rate: float = 1.0) -> tuple[float, Tensor] | None:
        record, u = Record(f), v.clone()
        adam = torch.optim.Adam([u], lr=self.lr * rate, fused=True)
        for i in range(self.steps):
            _, u.grad = record.sample(i).gradient(u)
            adam.step()
        record.value(u)
        return record.least

    def unit(self, d: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Steps are equally long in all variables: a coefficient's moves those of its block as far, in the mean."""
        return d / d.square().mean().sqrt().clamp_min(torch.finfo(d.dtype).tiny)


@final
class Lbfgs(Solver):
    """L-BFGS with a line search for the strong Wolfe conditions (Liu & Nocedal, 1989), as torch has it.

    Args:
        steps: number of steps; they evaluate f not more than 1.25 times each, line searches included.
        history: steps that the curvature is estimated from.
    """

    def __init__(self, *, steps: Count, history: Count):
        self.steps, self.history = steps, history

    def minimise(self, f: Objective, v: Float[Tensor, " m"], rate: float = 1.0) -> tuple[float, Tensor] | None:
        record, u = Record(f), v.clone()
        budget = self.steps * 5 // 4 + 1

        def closure() -> Tensor:
            if record.asked == budget:
                raise _SpentError
            value, u.grad = record.gradient(u)
            return value

        lbfgs = torch.optim.LBFGS(
            [u],
            max_iter=self.steps,
            max_eval=budget,
            history_size=self.history,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )
        # Torch's own bound does not hold inside a line search; who waits for a worker wants it to.
        with contextlib.suppress(_SpentError):
            lbfgs.step(closure)
        return record.least

    def unit(self, d: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Orthonormal columns, which leave f's curvature what it is."""
        return d / d.norm().clamp_min(torch.finfo(d.dtype).tiny)


class _SpentError(Exception):
    """The evaluations are used up."""
