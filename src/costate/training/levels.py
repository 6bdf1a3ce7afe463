"""Multilevel training: which depth, rate and gradients a run has in which of its epochs (Haber & Ruthotto, 2017).

L   number of levels, counted from 0, the coarsest
E   epochs of the whole run
T   end of the time interval; a level of n layers has the time step h = T / n
s   progress of the run, in [0, 1]
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple, final

from costate.config.composing import having
from costate.config.settings import Count, Rate
from costate.core.method import Method
from costate.methods.backprop import Backprop
from costate.methods.late import Delayed
from costate.training.optimizers import Annealing

LEVELS, STEP = 3, 0.5
"""As many levels as a run has of itself, as far as the coarsest one's h is no larger: above it, what a level learns is
about its steps and not about their equation, and is lost when they are halved.
"""
Balance = Sequence[int] | Literal["work"] | None


class Level(NamedTuple):
    """Some epochs at one depth; `rate` is a factor on the optimizer's rate, `exact` brings true gradients in place
    of what the run's own method answers.
    """

    depth: int | None
    epochs: int
    rate: float = 1.0
    exact: Method | None = None


@dataclass(frozen=True)
class Plan:
    """The levels of a run, and how the weights of one become those of the next.

    Attributes:
        start: settings of the architecture, as it is built.
        settings: those of the run that the plan has made up or changed.
        restarts: whether each level anneals its rate from the start.
    """

    levels: tuple[Level, ...]
    rule: Literal["linear", "copy"]
    start: dict[str, Any]
    settings: dict[str, Any]
    restarts: bool = False

    @property
    def ends(self) -> list[int]:
        """The epoch behind the last one of each level."""
        return list(accumulate(level.epochs for level in self.levels))

    def at(self, epoch: int) -> int:
        """The level of an epoch; the last one goes on for ever."""
        return sum(epoch >= end for end in self.ends[:-1])

    def annealing(self, each: Annealing) -> Annealing:
        """Each level's rate, annealed over the whole run or over the level's own epochs."""
        return LevelAnnealing(each, self)


@final
class LevelAnnealing(Annealing):
    """factor(s) = rate_l · each.factor(s), with restarts rate_l · each.factor((s − a_l) / (a_{l+1} − a_l)); level l
    is that of a_l ≤ s < a_{l+1}.
    """

    def __init__(self, each: Annealing, plan: Plan):
        self.each, self.restarts, self.rates = each, plan.restarts, [level.rate for level in plan.levels]
        # Quotients of integers, as s is one: at a boundary both are the same float.
        self.ends = [end / plan.ends[-1] for end in plan.ends]

    def factor(self, s: float) -> float:
        level = sum(s >= end for end in self.ends[:-1])
        start, end = ([0.0, *self.ends][level], self.ends[level]) if self.restarts else (0.0, 1.0)
        return self.rates[level] * self.each.factor((s - start) / (end - start))


class Levels(ABC):
    """Makes the plan of a run."""

    @abstractmethod
    def plan(
        self, depth: int | None, stages: int, epochs: int, lr: float, balance: Balance = None, T: float | None = None
    ) -> Plan:
        """What to do in `epochs` epochs.

        Args:
            depth: the setting of the architecture; None if it has none.
            lr: the optimizer's rate.
            balance: relative sizes of the stages, where they are not equal; work: found on the coarsest level.
            T: the setting of the architecture; None if it has none.

        Raises:
            ValueError: if there is no such plan.
        """


@final
class OneLevel(Levels):
    """The same depth from beginning to end."""

    def plan(
        self, depth: int | None, stages: int, epochs: int, lr: float, balance: Balance = None, T: float | None = None
    ) -> Plan:
        return Plan((Level(depth, epochs),), "linear", {}, {})


@final
@dataclass(kw_only=True, eq=False)
class Doubling(Levels):
    """Coarse first: each level has twice the depth of the one before and the same T, and begins with its weights.

    conf/levels/double.yaml says what each setting is. Where no epochs are listed a level has about four times as many
    as the one before: behind a doubling a network has to find its way back, the longer the further it had come.
    """

    count: Count | None
    depths: list[Count] | None
    epochs: list[Count] | None
    lr: list[Rate] | None
    anneal: Literal["run", "level"]
    prolong: Literal["linear", "copy"]
    coarse_method: Literal["backprop", "delayed", "sg"]

    def __post_init__(self) -> None:
        late = Delayed(delay=1, accumulate=1, predict=True, shrink=1.0)
        self.exact = {"backprop": Backprop(), "delayed": late, "sg": None}[self.coarse_method]

    def plan(
        self, depth: int | None, stages: int, epochs: int, lr: float, balance: Balance = None, T: float | None = None
    ) -> Plan:
        if depth is None:
            names = " or ".join(having("arch", "integrator").split(","))
            raise ValueError(f"levels=double needs layers that are steps in time: choose arch={names}, or levels=none.")
        depths = self._depths(depth, T)
        _check_cuts(depths[0], stages, balance)
        each = self._epochs(len(depths), epochs)
        rates = self.lr or [lr] * len(depths)
        if len(rates) != len(depths):
            raise ValueError(f"levels.lr={_list(rates)} has {_numbers(rates)} for {len(depths)} levels.")
        methods = [*[self.exact] * (len(depths) - 1), None]
        levels = [Level(n, e, rate / lr, exact) for n, e, rate, exact in zip(depths, each, rates, methods, strict=True)]
        own = {"count": len(depths), "depths": depths, "epochs": each[:-1], "lr": rates}
        settings = {"arch": {"depth": depths[-1]}, "epochs": sum(each), "levels": own}
        return Plan(tuple(levels), self.prolong, {"depth": depths[0]}, settings, self.anneal == "level")

    def _depths(self, depth: int, T: float | None) -> list[int]:
        if self.depths is not None:
            if not self.depths or any(b != 2 * a for a, b in pairwise(self.depths)):
                raise ValueError(f"levels.depths={_list(self.depths)}: each depth must be twice the one before.")
            return list(self.depths)
        if self.count is None:
            return _resolved(depth, T)
        coarsest, rest = divmod(depth, 2 ** (self.count - 1))
        if rest:
            raise ValueError(
                f"levels.count={self.count} halves arch.depth={depth} {self.count - 1} times, which needs a "
                f"multiple of {2 ** (self.count - 1)}: choose another arch.depth or fewer levels."
            )
        return [coarsest * 2**i for i in range(self.count)]

    def _epochs(self, levels: int, epochs: int) -> list[int]:
        if self.epochs is None:
            if epochs < levels:
                raise ValueError(f"epochs={epochs} is less than one for each of {levels} levels: raise epochs.")
            parts = [4**i for i in range(levels)]
            coarse = [max(1, epochs * part // sum(parts)) for part in parts[:-1]]
            return [*coarse, epochs - sum(coarse)]
        listed, told = list(self.epochs), f"levels.epochs={_list(self.epochs)}"
        if len(listed) == levels:
            return listed
        if len(listed) != levels - 1:
            raise ValueError(f"{told} has {_numbers(listed)} for {levels} levels.")
        if sum(listed) >= epochs:
            raise ValueError(f"{told} leaves none of epochs={epochs} to the last level: raise epochs.")
        return [*listed, epochs - sum(listed)]


def _resolved(depth: int, T: float | None) -> list[int]:
    """The depths that there are of themselves: 3 or 2 up to that one, or that one and its double, all with h ≤ ½."""
    for count in range(LEVELS, 0, -1):
        coarsest, rest = divmod(depth, 2 ** (count - 1))
        if not rest and (T or 0) <= STEP * coarsest:
            return [coarsest * 2**i for i in range(max(count, 2))]
    raise ValueError(
        f"levels=double finds no depth to begin with: arch.depth={depth} has a time step above {STEP:g} with "
        f"arch.T={T or 0:g}: raise arch.depth, lower arch.T, or say levels.count or levels.depths."
    )


def _check_cuts(coarsest: int, stages: int, balance: Balance) -> None:
    if stages > coarsest:
        raise ValueError(
            f"stages={stages} is more than the {coarsest} layers of the coarsest level: lower stages or begin deeper."
        )
    if balance == "work":
        return
    if balance is not None and any(coarsest * size % sum(balance) for size in balance):
        raise ValueError(
            f"balance={_list(balance)} does not cut the {coarsest} layers of the coarsest level: choose other sizes."
        )
    if balance is None and coarsest % stages:
        raise ValueError(
            f"stages={stages} does not divide the {coarsest} layers of the coarsest level, so that stages would not be "
            f"cut at equal times: choose other stages or depths."
        )


def _list(numbers: Sequence[float]) -> str:
    return f"[{','.join(f'{number:g}' for number in numbers)}]"


def _numbers(numbers: Sequence[float]) -> str:
    return "1 number" if len(numbers) == 1 else f"{len(numbers)} numbers"
