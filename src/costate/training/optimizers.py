"""Optimizers as settings, called with parameter groups they make a torch optimizer; and how their rate changes.

The fused implementations step all parameters in one call, on CPUs too.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from costate.config.settings import Amount, Rate, Share
from costate.training.muon import Muon

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
    def __call__(self, groups: Groups) -> torch.optim.Optimizer:
        """One parameter group a stage and an interface."""


class Averaging(Optimizer, ABC):
    """Steps by averages of g and of g², with decoupled weight decay."""

    moments: ClassVar[dict[str, int]] = {"exp_avg": 1, "exp_avg_sq": 2}
    kind: ClassVar[type[torch.optim.AdamW]]

    def __init__(self, *, lr: Rate, interfaces: Rate, betas: list[float], eps: Rate, weight_decay: Amount):
        self.lr, self.interfaces = lr, interfaces
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def __call__(self, groups: Groups) -> torch.optim.Optimizer:
        first, second = self.betas
        return self.kind(
            groups, lr=self.lr, betas=(first, second), eps=self.eps, weight_decay=self.weight_decay, fused=True
        )


class Adam(Averaging):
    """Adam (Kingma & Ba, 2015); with weight decay it is decoupled, AdamW (Loshchilov & Hutter, 2019)."""

    kind = torch.optim.AdamW


class MuonAdam(Averaging):
    """Muon for the stacked layers of stable networks (Jordan et al., 2024), decoupled Adam for all else."""

    kind = Muon


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, 2016) and decoupled weight decay; early stages have more of it.

    β₁ goes along a line from `first`, of the first group, to betas[0], of the last: with much of it a step points along
    the way that the weights have gone since a late gradient's forward pass (Ajanthan et al., 2025, 2505.01099).
    """

    moments: ClassVar[dict[str, int]] = Adam.moments

    def __init__(
        self, *, lr: Rate, interfaces: Rate, first: Share, betas: list[float], eps: Rate, weight_decay: Amount
    ):
        self.lr, self.interfaces, self.first = lr, interfaces, first
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def __call__(self, groups: Groups) -> torch.optim.Optimizer:
        last, second = self.betas
        rise = (self.first - last) / max(len(groups) - 1, 1)
        firsts = [last + rise * behind for behind in reversed(range(len(groups)))]
        return torch.optim.NAdam(
            [group | {"betas": (first, second)} for group, first in zip(groups, firsts, strict=True)],
            lr=self.lr,
            eps=self.eps,
            weight_decay=self.weight_decay,
            decoupled_weight_decay=True,
            foreach=True,
        )


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum."""

    moments: ClassVar[dict[str, int]] = {"momentum_buffer": 1}

    def __init__(self, *, lr: Rate, interfaces: Rate, momentum: Share, nesterov: bool, weight_decay: Amount):
        self.lr, self.interfaces = lr, interfaces
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay

    def __call__(self, groups: Groups) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            groups,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,
        )


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
