"""Optimizers as settings, called with parameter groups they make a torch optimizer; and how their rate changes.

The fused implementations step all parameters in one call, on CPUs too. Muon, for weights whose layers are stacked:

    G    gradient of a layer's matrix (a filter is one, its inputs and pixels in one axis)      (rows, columns)
    m    ← β m + (1 − β) G
    U Vᵀ of (1 − β) G + β m = U Σ Vᵀ, by five steps of Newton and Schulz, which leave singular values of 0.7 to 1.2
    θ    ← (1 − η λ) θ − 0.2 η √max(rows, columns) U Vᵀ        the size of one of Adam's steps

Jordan et al. (2024), Muon: an optimizer for hidden layers in neural networks; Liu et al. (2025), Muon is scalable for
LLM training, 2502.16982 (0.2, weight decay). Torch's own takes single matrices, not stacks.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from costate.config.settings import Amount, Rate, Share

QUINTIC = 3.4445, -4.7750, 2.0315
"""x ← a x + b x³ + c x⁵ takes singular values from (0, 1] to near 1, small ones fastest."""


@final
class Muon(torch.optim.AdamW):
    """AdamW, but stacks of matrices or of filters, which have an odd number of axes above one, step by Muon.

    β is AdamW's β₁, η and λ are AdamW's rate and weight decay, and m has the name of AdamW's average.

    Args:
        stacks: of the parameters those with a row for each layer; filters of a user's may have as many axes.
    """

    def __init__(
        self,
        params: Any,
        stacks: Iterable[Tensor],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
        weight_decay: float,
        fused: bool = True,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused)
        self.turned = {id(stack) for stack in stacks if stack.ndim in (3, 5)}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        # First of all: in it are those who look at gradients, or bound them.
        with torch.enable_grad():
            result = None if closure is None else closure()
        found = [(p, group) for group in self.param_groups for p in group["params"]]
        stacks = [(p, p.grad, group) for p, group in found if p.grad is not None and id(p) in self.turned]
        for p, G, group in stacks:
            self._turn(p, G, group)
            p.grad = None
        super().step()
        for p, G, _ in stacks:
            p.grad = G
        return result

    def _turn(self, p: Tensor, G: Tensor, group: dict[str, Any]) -> None:
        β, η, state = group["betas"][0], group["lr"], self.state[p]
        if not state:
            state.update(step=torch.zeros((), device=p.device), exp_avg=torch.zeros_like(p))
        state["step"] += 1
        m = state["exp_avg"].lerp_(G, 1 - β)
        matrices = torch.lerp(G, m, β).flatten(2)
        size = 0.2 * max(matrices.shape[1:]) ** 0.5
        p.mul_(1 - η * group["weight_decay"]).sub_(orthogonal(matrices).view_as(p), alpha=size * η)


def orthogonal(G: Float[Tensor, "n rows columns"]) -> Float[Tensor, "n rows columns"]:
    """U Vᵀ of each matrix, nearly."""
    a, b, c = QUINTIC
    X = G.mT if G.shape[1] > G.shape[2] else G
    X = X / X.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    # Optimizers step under Lightning's autocast, which is meant for the passes.
    with torch.autocast(G.device.type, enabled=False):
        for _ in range(5):
            A = X @ X.mT
            X = a * X + (b * A + c * A @ A) @ X
    return X.mT if G.shape[1] > G.shape[2] else X


Groups = list[dict[str, Any]]


class Optimizer(ABC):
    """Makes the optimizer of a run.

    Attributes:
        moments: names of the state that averages g, with degree 1, or g², with degree 2.
        interfaces: factor on the rate for what learns at the boundaries, synthesizers and local heads.
    """

    moments: ClassVar[dict[str, int]]
    lr: float
    interfaces: float

    @abstractmethod
    def __call__(self, groups: Groups, stacks: Iterable[Tensor]) -> torch.optim.Optimizer:
        """One parameter group a stage and an interface; the stacks are the parameters with a row for each layer."""


class Averaging(Optimizer, ABC):
    """Steps by averages of g and of g², with decoupled weight decay."""

    moments: ClassVar[dict[str, int]] = {"exp_avg": 1, "exp_avg_sq": 2}

    def __init__(self, *, lr: Rate, interfaces: Rate, betas: list[float], eps: Rate, weight_decay: Amount):
        self.lr, self.interfaces, (first, second) = lr, interfaces, betas
        self.settings: dict[str, Any] = {"lr": lr, "betas": (first, second), "eps": eps, "weight_decay": weight_decay}


@final
class Adam(Averaging):
    """Adam (Kingma & Ba, 2015); with weight decay it is decoupled, AdamW (Loshchilov & Hutter, 2019)."""

    def __call__(self, groups: Groups, stacks: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, **self.settings, fused=True)


@final
class MuonAdam(Averaging):
    """Muon for the stacked layers of stable networks (Jordan et al., 2024), decoupled Adam for all else."""

    def __call__(self, groups: Groups, stacks: Iterable[Tensor]) -> torch.optim.Optimizer:
        return Muon(groups, stacks, **self.settings)


@final
class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, 2016) and decoupled weight decay; early stages have more of it.

    β₁ goes along a line from `first`, of the first stage, to betas[0], of the last, and what learns beside a stage has
    its stage's: with much of it a step points along the way that the weights have gone since a late gradient's forward
    pass (Ajanthan et al., 2025, 2505.01099).
    """

    moments: ClassVar[dict[str, int]] = Averaging.moments

    def __init__(
        self, *, lr: Rate, interfaces: Rate, first: Share, betas: list[float], eps: Rate, weight_decay: Amount
    ):
        self.lr, self.interfaces, self.first, self.betas = lr, interfaces, first, betas
        self.settings: dict[str, Any] = {"eps": eps, "weight_decay": weight_decay, "decoupled_weight_decay": True}

    def __call__(self, groups: Groups, stacks: Iterable[Tensor]) -> torch.optim.Optimizer:
        last, second = self.betas
        numbers = [int(group.get("name", "block/0").rpartition("/")[2]) for group in groups]
        rise = (self.first - last) / max(*numbers, 1)
        firsts = [last + rise * (max(numbers) - k) for k in numbers]
        own = [group | {"betas": (first, second)} for group, first in zip(groups, firsts, strict=True)]
        return torch.optim.NAdam(own, lr=self.lr, foreach=True, **self.settings)


@final
class Sgd(Optimizer):
    """Stochastic gradient descent with momentum."""

    moments: ClassVar[dict[str, int]] = {"momentum_buffer": 1}

    def __init__(self, *, lr: Rate, interfaces: Rate, momentum: Share, nesterov: bool, weight_decay: Amount):
        self.lr, self.interfaces = lr, interfaces
        self.settings: dict[str, Any] = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}

    def __call__(self, groups: Groups, stacks: Iterable[Tensor]) -> torch.optim.Optimizer:
        # On a CPU torch's fused step of bfloat16 leaves the better part of a tensor where it is.
        half = any(p.dtype == torch.bfloat16 and p.device.type == "cpu" for group in groups for p in group["params"])
        return torch.optim.SGD(groups, lr=self.lr, fused=not half, **self.settings)


class Annealing(ABC):
    """The learning rate at progress s is `factor(s)` times the optimizer's."""

    @abstractmethod
    def factor(self, s: float) -> float: ...


class Constant(Annealing):
    """factor(s) = 1."""

    def factor(self, s: float) -> float:
        return 1.0


class Cosine(Annealing):
    """Up along a line over the first `warmup` share of the run, then down along half a cosine to `floor`."""

    def __init__(self, *, warmup: Share, floor: Share):
        self.warmup, self.floor = warmup, floor

    def factor(self, s: float) -> float:
        if s < self.warmup:
            # Not from zero itself: the first batch would be lost.
            return max(s / self.warmup, 1e-2)
        t = (s - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * min(t, 1.0))) / 2


class Exponential(Annealing):
    """factor(s) = final^s."""

    def __init__(self, *, final: Rate):
        self.final = final

    def factor(self, s: float) -> float:
        return self.final**s
