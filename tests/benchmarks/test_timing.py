"""What the pipeline benchmark's milliseconds are."""

from types import SimpleNamespace

import pytest

from costate.benchmarks import pipeline
from costate.benchmarks.contest import Contestant
from ranks import on_ranks


class Slow(Contestant):
    """Takes a second a batch, and five more to drain; its own clock shows them."""

    def __init__(self):
        self.setting = SimpleNamespace(batches=lambda: [(None, None)])
        self.now, self.played = 0.0, 0

    def step(self, n, x, y, more):
        self.now += 1.0 if more else 6.0
        self.played += 1


def timed():
    way = Slow()
    pipeline.time = SimpleNamespace(perf_counter=lambda: way.now)
    return pipeline._time(way)["ms"], way.played


def test_draining_is_not_timed_and_a_slow_network_has_ten_batches_too(tmp_path):
    """A network of 0.9 s a batch once had three batches a row, and a third of a step too much in them."""
    ((ms, played),) = on_ranks(1, tmp_path, timed)
    assert ms == pytest.approx(1000)
    assert played >= 2 * pipeline.WARMUP + 10
