"""Types for settings: a plain type and the bound that its values keep. Light: imports no torch."""

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Bound:
    """An interval of allowed numbers: ``least`` is inside, ``above`` is outside, ``most`` is inside."""

    least: float | None = None
    above: float | None = None
    most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the value lies in the interval; what is not finite is within no bound."""
        return (
            abs(value) < math.inf
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        parts = (("at least", self.least), ("above", self.above), ("at most", self.most))
        return " and ".join(
            f"{word} {number if isinstance(number, int) else f'{number:g}'}"
            for word, number in parts
            if number is not None
        )


Count = Annotated[int, Bound(least=1)]
Size = Annotated[int, Bound(least=0)]
Rate = Annotated[float, Bound(above=0)]
Amount = Annotated[float, Bound(least=0)]
Seed = Annotated[int, Bound(least=0, most=2**32 - 1)]
"""Torch's generator on a CPU keeps 32 bits of its seed: with 2³² it draws what it draws with 0."""
Share = Annotated[float, Bound(least=0, most=1)]
