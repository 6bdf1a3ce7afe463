"""Muon for weights whose layers are stacked, and AdamW for everything else.

    G    gradient of a layer's matrix (a filter is one, its inputs and pixels in one axis)      (rows, columns)
    m    ← β m + (1 − β) G
    U Vᵀ of (1 − β) G + β m = U Σ Vᵀ, by five steps of Newton and Schulz, which leave singular values of 0.7 to 1.2
    θ    ← (1 − η λ) θ − 0.2 η √max(rows, columns) U Vᵀ        the size of one of Adam's steps

Jordan et al. (2024), Muon: an optimizer for hidden layers in neural networks; Liu et al. (2025), Muon is scalable for
LLM training, 2502.16982 (0.2, weight decay). Torch's own takes single matrices, not stacks.
"""

from collections.abc import Callable
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

QUINTIC = 3.4445, -4.7750, 2.0315
"""x ← a x + b x³ + c x⁵ takes singular values from (0, 1] to near 1, small ones fastest."""


@final
class Muon(torch.optim.AdamW):
    """AdamW, but stacks of matrices or of filters, which have an odd number of axes above one, step by Muon.

    β is AdamW's β₁, η and λ are AdamW's rate and weight decay, and m has the name of AdamW's average.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        stacks = [(p, group) for group in self.param_groups for p in group["params"] if _stacked(p)]
        held = [(p, p.grad) for p, _ in stacks]
        for p, group in stacks:
            self._turn(p, group)
            p.grad = None
        result = super().step(closure)
        for p, gradient in held:
            p.grad = gradient
        return result

    def _turn(self, p: Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None, "asked of those that have one"
        β, η, state = group["betas"][0], group["lr"], self.state[p]
        if not state:
            state.update(step=torch.zeros((), device=p.device), exp_avg=torch.zeros_like(p))
        state["step"] += 1
        m = state["exp_avg"].lerp_(p.grad, 1 - β)
        matrices = torch.lerp(p.grad, m, β).flatten(2)
        size = 0.2 * max(matrices.shape[1:]) ** 0.5
        p.mul_(1 - η * group["weight_decay"]).sub_(orthogonal(matrices).view_as(p), alpha=size * η)


def orthogonal(G: Float[Tensor, "n rows columns"]) -> Float[Tensor, "n rows columns"]:
    """U Vᵀ of each matrix, nearly."""
    a, b, c = QUINTIC
    X = G.mT if G.shape[1] > G.shape[2] else G
    X = X / X.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return X.mT if G.shape[1] > G.shape[2] else X


def _stacked(p: Tensor) -> bool:
    return p.grad is not None and p.ndim in (3, 5)
