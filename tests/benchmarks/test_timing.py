"""What the benchmarks' seconds and bytes a batch are."""

from types import SimpleNamespace

import pytest

from costate.benchmarks import contest
from costate.core.copies import Copies
from ranks import on_ranks


class Slow(contest.Contestant):
    """Takes a second a batch and sends ten bytes, and takes five more to drain; its own clock shows them."""

    def __init__(self):
        self.setting = SimpleNamespace(batches=lambda: [(None, None)])
        self.now, self.played = 0.0, []

    def step(self, n, x, y, more):
        self.now += 1.0 if more else 6.0
        self.sent += 10
        self.played.append(n)


class Copying(Slow):
    """A copy costs 43 seconds and 430 bytes more, behind every 43rd batch."""

    copies = Copies(43, 8, 0)

    def step(self, n, x, y, more):
        super().step(n, x, y, more)
        if self.copies.made(n):
            self.now += 43.0
            self.sent += 430


def timed(kind):
    way = kind()
    contest.time = SimpleNamespace(perf_counter=lambda: way.now, process_time=lambda: way.now)
    return contest.pace(way, 2.5, 10), way.played


def both():
    return timed(Slow), timed(Copying)


def test_neither_draining_nor_a_copy_that_happens_to_be_made_is_in_a_batchs_time(tmp_path):
    """A network of 0.9 s a batch once had three batches a row, and a third of a step too much in them. Copies are made
    seldom: of one the batches have a share, however few are timed.
    """
    (((plain, played), (copying, numbers)),) = on_ranks(1, tmp_path, both)
    assert (plain.seconds, plain.sent) == (pytest.approx(1.0), [pytest.approx(10.0)])
    assert len(played) >= 2 * 3 + 10
    assert (copying.seconds, copying.sent) == (pytest.approx(2.0), [pytest.approx(20.0)])
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert sum(Copying.copies.made(n) for n in numbers) == 1
