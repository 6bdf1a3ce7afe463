"""Means and deviations as tables show them."""

import math
from collections.abc import Iterable
from statistics import mean, stdev


def statistics(values: Iterable[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; None where there are not as many numbers, or not all are finite."""
    values = list(values)
    spread = len(values) > 1 and all(map(math.isfinite, values))
    return mean(values) if values else None, stdev(values) if spread else None


def plus_minus(average: float | None, deviation: float | None) -> str:
    """Two digits of the deviation, and as many places of the mean."""
    if average is None or not deviation:
        return "" if average is None else f"{average:.4g}"
    places = max(0, 1 - math.floor(math.log10(deviation)))
    return f"{average:.{places}f} ± {deviation:.{places}f}"
