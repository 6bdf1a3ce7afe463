"""Messages: how many are under way; lines between roles: what is sent is played, in order and with its bits."""

import threading
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from costate.execution.asynchronous.lines import Lines
from costate.execution.messages import Outbox
from ranks import on_ranks

FRONT, BEHIND = 1, 0
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DTYPES = (*FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
STEPS = 200


def sent(number: int) -> tuple[Tensor, ...]:
    """Shapes change now and then, as at the end of an epoch, and so do precisions and how many there are."""
    batch = 3 if number % 7 == 6 else 8
    chance = torch.Generator().manual_seed(number)
    x = (3 * torch.randn(batch, 5, generator=chance)).to(DTYPES[number // 20 % len(DTYPES)])
    y = torch.randint(9, (batch,), generator=chance)
    x.requires_grad_(x.is_floating_point())
    return (x, y, y[:0]) if number % 50 < 40 else (x.flatten()[0],)


def play() -> dict[str, Any]:
    bell, own = threading.Condition(), dist.get_rank()
    played: dict[str, list[Any]] = {"message": [], "question": [], "own": []}

    def message(number: int, *tensors: Tensor) -> None:
        played["message"].append((number, tensors))

    def question(number: int, x: Tensor) -> tuple[int, Tensor]:
        played["question"].append(number)
        return -number, x + 1

    def then(number: int, x: Tensor) -> None:
        played["question"].append(f"then {number}")

    def fails(number: int, x: Tensor) -> None:
        raise LookupError("of the one that plays")

    def wait(happened: Any) -> None:
        with bell:
            assert bell.wait_for(happened, timeout=60)

    lines = Lines(bell)
    messages, questions = lines.open(FRONT, BEHIND, message), lines.open(FRONT, BEHIND, question, then)
    own_line = lines.open(own, own, lambda number, x: played["own"].append((number, x)))
    answers = []
    own_line.send(3, torch.ones(2, requires_grad=True))
    if own == FRONT:
        for number in range(STEPS):
            messages.send(number, *sent(number))
        answers = [questions.ask(number, sent(number)[0]) for number in range(STEPS)]
    lines.flush(wait)
    counts = lines.counts
    lines.close()
    failing = Lines(bell)
    line = failing.open(FRONT, BEHIND, fails)
    told = ""
    if own == FRONT:
        try:
            line.ask(0, torch.ones(2))
        except RuntimeError as error:
            told = str(error)
    elif line.thread:
        line.thread.join()
    return {"played": played, "answers": answers, "counts": counts, "told": told, "failure": repr(failing.failure)}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[str, Any]]:
    return on_ranks(2, tmp_path_factory.mktemp("lines"), play)


def equal(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    return all(
        a.dtype == b.dtype and not a.requires_grad and torch.equal(a, b) for a, b in zip(found, expected, strict=True)
    )


def test_what_is_sent_is_played_in_order_bit_for_bit(ranks):
    played = ranks[BEHIND]["played"]["message"]
    assert [number for number, _ in played] == list(range(STEPS))
    assert all(equal(tensors, sent(number)) for number, tensors in played)
    assert ranks[FRONT]["played"]["message"] == []


def test_a_question_is_answered_and_then_handed_on(ranks):
    """A state that was handed on before its request was admitted pushed a waiting one out of a feed without slack."""
    played = ranks[BEHIND]["played"]["question"]
    assert played == [event for number in range(STEPS) for event in (number, f"then {number}")]
    for number, (staleness, g) in enumerate(ranks[FRONT]["answers"]):
        assert staleness == -number
        assert equal((g,), (sent(number)[0] + 1,))


def test_messages_are_counted_on_both_ends(ranks):
    assert ranks[FRONT]["counts"] == (2 * STEPS, 0)
    assert ranks[BEHIND]["counts"] == (0, 2 * STEPS)


def test_within_one_rank_a_message_is_played_at_once_and_without_a_graph(ranks):
    for found in ranks:
        ((number, x),) = found["played"]["own"]
        assert number == 3
        assert not x.requires_grad


def test_who_asks_is_told_that_the_one_who_plays_has_failed(ranks):
    assert ranks[FRONT]["told"] == f"Rank {BEHIND} was asked for a gradient and has failed."
    assert ranks[BEHIND]["failure"] == "LookupError('of the one that plays')"


class Work:
    """A message that has left when somebody waits for it."""

    under_way = 0

    def __init__(self) -> None:
        Work.under_way += 1

    def wait(self) -> None:
        Work.under_way -= 1


@pytest.mark.parametrize("window", [1, 2, 5])
def test_no_more_messages_are_under_way_than_the_window_has_room_for(monkeypatch, window):
    most = []

    def isend(tensor: torch.Tensor, peer: int, group: None, tag: int) -> Work:
        work = Work()
        most.append(Work.under_way)
        return work

    monkeypatch.setattr(dist, "isend", isend)
    outbox = Outbox(1, None, window)
    for _ in range(8):
        outbox.send((torch.zeros(3),))
    assert most == [min(n, window) for n in range(1, 9)]
    outbox.room()
    assert Work.under_way == window - 1, "room is for one more"
    outbox.flush()
    assert Work.under_way == 0
