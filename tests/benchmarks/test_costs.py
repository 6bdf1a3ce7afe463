"""What a benchmark measures of two stages before it predicts many."""

import math

from costate.benchmarks import costs
from costate.benchmarks.speed import methods_of, setting_of


def test_copies_are_measured_as_training_makes_them(monkeypatch):
    """Since a copy may be exact, measuring had asked for numbers in a way that nobody has, and `scaling` ended."""
    monkeypatch.setattr(costs, "WARMUP", 1)
    monkeypatch.setattr(costs, "REPEATS", 2)
    setting = setting_of("w64d64", "arch.width=4", "balance=null")
    found = costs._copies(setting, methods_of([])["coarse"])
    assert found["near layers"] < found["far layers"] < setting.arch["depth"]
    assert all(math.isfinite(number) and number > 0 for number in found.values())
