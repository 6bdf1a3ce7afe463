"""What a rank says of its own business, on a clock that only the test moves."""

import time

import pytest

from costate.execution.clock import Clock


@pytest.fixture
def pass_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


def batch(traffic: Clock, pass_time, work: float, wait: float, more: bool) -> None:
    traffic.begin()
    with traffic.span("wait for state", 0):
        pass_time(wait)
    with traffic.span("forward", 0):
        pass_time(work)
    traffic.end(queue=1, more=more)


def test_busy_is_the_share_of_the_time_that_was_not_waited(pass_time):
    traffic = Clock()
    for n in range(4):
        batch(traffic, pass_time, work=3.0, wait=1.0, more=n < 3)
    expected = {"updates_per_second": 0.25, "busy": 0.75, "stall_ms": 1000.0, "queue": 1.0}
    assert traffic.measure() == pytest.approx(expected)


def test_validation_between_epochs_is_neither_work_nor_waiting(pass_time):
    traffic = Clock()
    batch(traffic, pass_time, work=1.0, wait=1.0, more=False)
    pass_time(50.0)
    batch(traffic, pass_time, work=1.0, wait=1.0, more=False)
    assert traffic.measure()["busy"] == pytest.approx(0.5)


def test_each_measurement_begins_where_the_one_before_ended(pass_time):
    traffic = Clock()
    batch(traffic, pass_time, work=1.0, wait=3.0, more=True)
    assert traffic.measure()["busy"] == pytest.approx(0.25)
    # Measured between two batches: the optimizer's step after it belongs to the next.
    pass_time(1.0)
    batch(traffic, pass_time, work=3.0, wait=0.0, more=False)
    expected = {"updates_per_second": 0.25, "busy": 1.0, "stall_ms": 0.0, "queue": 1.0}
    assert traffic.measure() == pytest.approx(expected)


def test_a_clock_remembers_the_latest_spans(pass_time):
    clock = Clock(keep=2)
    for n in range(5):
        with clock.span("forward", n):
            pass_time(0.5)
    assert [(span.name, span.batch, span.seconds) for span in clock.spans] == [("forward", 3, 0.5), ("forward", 4, 0.5)]
    assert clock.seconds["forward"] == pytest.approx(2.5)
