"""The synchronisation of an outer iteration.

    x        where it began, with value f(x)
    z_l      results of the workers, with values f_l;  b the best of them
    λ ∈ Rᵖ   x(λ) = x + Σ_l λ_l (z_l − x), the affine hull of x and all z_l;  λ = e_b + δ

Minimises f(x(λ)) from the best worker on, δ = 0. Along each z_l − x three numbers are known before anything is
evaluated, f(x), the slope s_l = ⟨∇f(x), z_l − x⟩ and f_l. They give the curvature q_l = 2 (f_l − f(x) − s_l), and δ_l
is scaled by 1 / √q_l, so that the first step is about as long as it should be.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from costate.pvd.objective import Objective, Restriction
from costate.pvd.solvers import Lbfgs
from costate.pvd.worker import Result, Start


@final
class Hull:
    """The affine hull of x and the workers' results.

    Attributes:
        best: number of the best worker.
    """

    def __init__(self, start: Start, results: Sequence[Result]):
        self.start, self.results = start, results
        self.best = min(range(len(results)), key=lambda l: results[l].value)
        self.columns = [result.z - start.x for result in results]

    def restriction(self, f: Objective) -> Restriction:
        """f as a function of δ."""
        whole = slice(0, len(self.start.x))
        return Restriction(f, self.results[self.best].z, [], [(whole, column) for column in self.columns])

    def minimise(self, f: Objective, steps: int) -> tuple[Tensor, float]:
        """δ, and f there, not above the best worker's.

        Args:
            steps: of L-BFGS, each about an evaluation of f and its gradient.
        """
        none = self.start.x.new_zeros(len(self.results)), self.results[self.best].value
        if len(self.results) == 1:
            return none
        scales = torch.stack([*map(self._scale, self.columns, self.results)])
        found = Lbfgs(steps=steps, history=len(self.results)).minimise(_Scaled(self.restriction(f), scales), none[0])
        if found is None or not found[0] < none[1]:
            return none
        return scales * found[1], found[0]

    def coefficients(self, delta: Tensor) -> list[float]:
        """λ."""
        return [x + (l == self.best) for l, x in enumerate(delta.tolist())]

    def _scale(self, column: Tensor, result: Result) -> Tensor:
        """1 / √q; where f bends down, the slope stands in for q, and where nothing moves, nothing is scaled."""
        s = (self.start.g * column).sum()
        q = torch.maximum(2 * (result.value - self.start.value - s), s.abs())
        return torch.where(q > 0, q, torch.ones_like(q)).rsqrt()


@final
class _Scaled(Objective):
    """v ↦ f(scales · v)."""

    def __init__(self, f: Objective, scales: Tensor):
        self.f, self.scales = f, scales

    def value(self, x: Tensor) -> Tensor:
        return self.f.value(self.scales * x)

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, g = self.f.gradient(self.scales * x)
        return value, self.scales * g
