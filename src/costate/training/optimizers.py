"""Optimizers as settings: called with parameter groups, they make a torch optimizer.

The fused implementations step all parameters in one call, on CPUs too.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from costate.settings import Amount, Rate, Share

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


class Adam(Optimizer):
    """Adam (Kingma & Ba, 2015); with weight decay it is decoupled, AdamW (Loshchilov & Hutter, 2019)."""

    moments: ClassVar[dict[str, int]] = {"exp_avg": 1, "exp_avg_sq": 2}

    def __init__(self, *, lr: Rate, interfaces: Rate, betas: list[float], eps: Rate, weight_decay: Amount):
        self.lr, self.interfaces = lr, interfaces
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def __call__(self, groups: Groups) -> torch.optim.Optimizer:
        first, second = self.betas
        return torch.optim.AdamW(
            groups, lr=self.lr, betas=(first, second), eps=self.eps, weight_decay=self.weight_decay, fused=True
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
