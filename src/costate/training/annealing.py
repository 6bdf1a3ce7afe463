"""How the learning rate changes over a run: a factor on the optimizer's rate, as a function of progress s in [0, 1]."""

import math
from abc import ABC, abstractmethod

from costate.config.settings import Rate, Share


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
