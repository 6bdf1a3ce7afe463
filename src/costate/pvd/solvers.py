"""Inexact solvers of a worker's problem: some steps of a known method."""

import contextlib
from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from costate.config.settings import Count, Rate
from costate.pvd.objective import Objective, Record


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
