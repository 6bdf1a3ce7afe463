"""The rate over a run: every annealing of conf/ begins at the full rate or warms up to it, and the known ones are their
formulas.
"""

import math

import pytest
from hydra.utils import instantiate

from composing import config, options
from costate.training.optimizers import Constant, Cosine, Exponential

POINTS = [i / 64 for i in range(65)]


@pytest.mark.parametrize("name", options("annealing"))
def test_the_rate_is_positive_and_never_above_the_optimizers(name):
    factors = [instantiate(config(f"annealing={name}").annealing, _convert_="all").factor(s) for s in POINTS]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == pytest.approx(1, abs=0.05)
    top = factors.index(max(factors))
    assert factors[top:] == sorted(factors[top:], reverse=True), "down, once it has been up"
    assert factors[: top + 1] == sorted(factors[: top + 1])


@pytest.mark.parametrize(("warmup", "floor"), [(0.0, 0.0), (0.25, 0.0), (0.25, 0.1), (1.0, 0.5)])
def test_cosine(warmup, floor):
    """A line to 1, then floor + (1 − floor) (1 + cos πt) / 2 over what is left of the run."""
    factor = Cosine(warmup=warmup, floor=floor).factor
    for s in POINTS:
        if s < warmup:
            assert factor(s) == max(s / warmup, 0.01)
        else:
            t = (s - warmup) / (1 - warmup) if warmup < 1 else 1.0
            assert factor(s) == pytest.approx(floor + (1 - floor) * math.cos(math.pi * t / 2) ** 2)
    assert factor(1.5) == pytest.approx(floor), "a run that goes on stays there"


def test_constant_and_exponential():
    assert all(Constant().factor(s) == 1 for s in POINTS)
    factor = Exponential(final=0.01).factor
    assert factor(0) == 1
    for a, b in zip(POINTS, reversed(POINTS), strict=True):
        assert factor(a) * factor(b) == pytest.approx(0.01)
        assert factor(a / 2) ** 2 == pytest.approx(factor(a))
