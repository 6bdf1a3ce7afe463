"""Traces of several processes on one clock."""

import json

import pytest

from costate.callbacks.speed import events
from costate.execution.clock import Span
from costate.reports import timeline


def spans(period: float, share: float, batches: int = 8) -> list[Span]:
    """A forward pass and an update on each batch, together so large a share of the time; the rest is waited."""
    half = share * period / 2
    found = []
    for n in range(batches):
        start = n * period
        found += [Span("forward", n, start, half), Span("update", n, start + half, half)]
        found.append(Span("wait for state", n, start + 2 * half, period - 2 * half))
    return found


def written(path, *processes: list[Span]):
    named = [(f"rank {i}, stage {len(processes) - 1 - i}", own) for i, own in enumerate(processes)]
    path.write_text(json.dumps({"traceEvents": events(named)}))
    return path


def test_a_trace_is_read_as_it_was_written_and_waiting_is_no_work(tmp_path):
    trace = timeline.read(written(tmp_path / "trace.json", spans(1.0, 0.5), spans(1.0, 0.25)))
    assert set(trace.processes) == {"stage 0", "stage 1"}
    assert {piece.name for own in trace.processes.values() for piece in own} == {"forward", "update"}
    assert trace.pace == pytest.approx(1.0)
    assert [piece.batch for piece in trace.updates] == list(range(8))
    assert trace.updates[3].start == pytest.approx(3.125)


def test_batches_and_work_are_counted_within_the_same_seconds(tmp_path):
    slow = timeline.read(written(tmp_path / "slow.json", spans(1.0, 0.5, 16), spans(1.0, 0.25, 16)))
    fast = timeline.read(written(tmp_path / "fast.json", spans(0.5, 1.0, 32), spans(0.5, 0.5, 32)))
    figure = timeline.timeline({"slow": slow, "fast": fast})
    titles = [place.get_title(loc="left") for place in figure.axes]
    assert titles[0].startswith("slow: 4 batches, at work 38 % ")
    assert titles[1].startswith("fast: 8 batches, at work 75 % ")
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim() == (0.0, pytest.approx(4.0))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["stage 0", "stage 1"]
