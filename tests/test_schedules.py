"""Schedules as tables, and the one law that they keep: a message is sent before it is used."""

import subprocess
import sys
from functools import partial

import pytest

from costate.core.schedules import Event, Operation, decoupled, delayed, locked, waits

LETTER = {Operation.FORWARD: "F", Operation.UPDATE: "U", Operation.LEARN: "L"}


def table(events: list[Event]) -> str:
    return " ".join(f"{LETTER[operation]}{k}.{n}" for operation, k, n in events)


@pytest.mark.parametrize(
    ("schedule", "stages", "batch", "lag", "expected"),
    [
        (locked, 1, 7, 0, "F0.7 U0.7"),
        (locked, 3, 0, 0, "F0.0 F1.0 F2.0 U2.0 U1.0 U0.0 L0.0 L1.0"),
        (locked, 2, 4, 1, "F0.4 F1.4 U1.4 U0.4 L0.3"),
        (decoupled, 1, 7, 0, "F0.7 U0.7"),
        (decoupled, 3, 5, 0, "F0.5 U0.5 F1.5 U1.5 F2.5 U2.5 L0.5 L1.5"),
        (decoupled, 3, 5, 1, "F0.5 U0.5 F1.5 U1.5 F2.5 U2.5 L0.4 L1.4"),
        (decoupled, 2, 0, 1, "F0.0 U0.0 F1.0 U1.0"),
        (decoupled, 2, 1, 2, "F0.1 U0.1 F1.1 U1.1"),
    ],
)
def test_table(schedule, stages, batch, lag, expected):
    assert table(schedule(stages, batch, lag)) == expected


@pytest.mark.parametrize(
    ("stages", "batch", "delay", "expected"),
    [
        (1, 7, 2, "F0.7 U0.7"),
        (3, 0, 2, "F0.0 F1.0 F2.0 U2.0"),
        (3, 2, 2, "F0.2 F1.2 F2.2 U2.2 U1.0 L1.0"),
        (3, 6, 2, "F0.6 F1.6 F2.6 U2.6 U1.4 U0.2 L0.2 L1.4"),
        (4, 6, 1, "F0.6 F1.6 F2.6 F3.6 U3.6 U2.5 U1.4 U0.3 L0.3 L1.4 L2.5"),
    ],
)
def test_table_of_late_gradients(stages, batch, delay, expected):
    assert table(delayed(stages, batch, delay)) == expected


@pytest.mark.parametrize("stages", [1, 2, 5])
def test_no_delay_is_the_lock(stages):
    assert list(delayed(stages, 3, 0)) == list(locked(stages, 3))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (locked(3, 7), True),
        (locked(1, 7), False),
        (decoupled(3, 7, lag=1), False),
        (decoupled(3, 7, lag=0), True),
        (delayed(3, 7, delay=0), True),
        (delayed(3, 7, delay=1), False),
        (delayed(3, 0, delay=2), False),
    ],
)
def test_who_waits_for_the_update_of_the_stage_behind(events, expected):
    assert waits(list(events)) is expected


SCHEDULES = {f"{each.__name__} {lag}": partial(each, lag=lag) for each in (locked, decoupled) for lag in (0, 1, 3)}
SCHEDULES |= {f"delayed {delay}": partial(delayed, delay=delay) for delay in (0, 1, 2)}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_every_message_is_sent_before_it_is_used_and_nothing_happens_twice(name, stages):
    batches, schedule, number = 12, SCHEDULES[name], int(name[-1])
    done: set[Event] = set()
    for n in range(batches):
        for event in schedule(stages, n):
            operation, k, batch = event
            needed = {
                Operation.FORWARD: [Event(Operation.FORWARD, k - 1, batch)] if k > 0 else [],
                Operation.UPDATE: [Event(Operation.FORWARD, k, batch)],
                Operation.LEARN: [Event(Operation.UPDATE, k, batch), Event(Operation.UPDATE, k + 1, batch)],
            }[operation]
            if not name.startswith("decoupled") and operation is Operation.UPDATE and k < stages - 1:
                needed.append(Event(Operation.UPDATE, k + 1, batch))
            assert all(event in done for event in needed), f"{event} needs {needed}"
            assert event not in done
            done.add(event)
    if name.startswith("delayed"):
        updates = sum(max(batches - number * k, 0) for k in range(stages))
        assert len(done) == batches * stages + 2 * updates - batches
    else:
        assert len(done) == batches * 2 * stages + (batches - number) * (stages - 1)


def test_schedules_know_no_torch():
    code = "import sys, costate.core.schedules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
