"""Ranks look after each other by a store: who is silent, who has failed, and who has ended well."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from costate.execution.launching import watch
from costate.execution.launching.watch import Watch


class Store:
    """A store in memory, that can be out of reach."""

    def __init__(self) -> None:
        self.said: dict[str, bytes] = {}
        self.away = False

    def set(self, key: str, value: str) -> None:
        self._reach()
        self.said[key] = value.encode()

    def check(self, keys: list[str]) -> bool:
        self._reach()
        return all(key in self.said for key in keys)

    def multi_get(self, keys: list[str]) -> list[bytes]:
        return [self.said[key] for key in keys]

    def _reach(self) -> None:
        if self.away:
            raise RuntimeError("no route to host")


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sentences that ranks would have ended with."""
    sentences: list[str] = []
    monkeypatch.setattr(watch, "_leave", lambda sentence, alone: sentences.append(sentence))
    for name, seconds in {"BEAT": 0.02, "SILENCE": 0.4, "FIRST": 0.8}.items():
        monkeypatch.setattr(watch, name, seconds)
    return sentences


def made(store: Any, rank: int, ranks: int = 3) -> Watch:
    found = Watch(store, rank, ranks, "host0", lambda count: None)
    found.folder = Path("there")
    return found


def wait_for(sentences: list[str], seconds: float = 5) -> str:
    end = time.monotonic() + seconds
    while not sentences:
        assert time.monotonic() < end, "nobody is missed"
        time.sleep(0.01)
    return sentences[0].partition(", and this run")[0]


def test_ranks_that_are_there_miss_nobody(left):
    store = Store()
    with made(store, 1), made(store, 2), made(store, 0):
        time.sleep(1)
    assert left == []


def test_a_rank_that_falls_silent_is_named(left):
    store = Store()
    store.set("beat/1", "host7 42")
    with made(store, 2), made(store, 0):
        assert wait_for(left) == "Rank 1 on host7 has not been heard of for 0.4 s"


def test_a_rank_that_never_comes_is_given_longer(left):
    store, begin = Store(), time.monotonic()
    with made(store, 2), made(store, 0):
        assert wait_for(left) == "Rank 1 has not been heard of for 0.8 s"
        assert time.monotonic() - begin > 0.8


def test_the_place_to_meet_is_missed_where_it_is_out_of_reach(left):
    store = Store()
    with made(store, 1, 2), made(Store(), 0, 2):
        time.sleep(0.1)
        store.away = True
        assert wait_for(left) in (
            "Rank 0 on host0 has not been heard of for 0.4 s",
            "Rank 1 has not been heard of for 0.8 s",
        )


def test_a_failure_is_told_at_once_and_an_end_is_no_silence(left):
    store = Store()
    store.set("beat/1", "host7 end")
    with made(store, 2), made(store, 0):
        time.sleep(1)
        assert left == [], "rank 1 has ended well"
        store.set("beat/1", "host7 failed KeyError: 'loss'")
        assert wait_for(left) == "Rank 1 on host7 failed (KeyError: 'loss')"


def test_a_rank_that_is_asked_to_stop_still_hears_why(left):
    """Its torchrun loses the host of another one that is killed before that one's ranks have said so."""
    store = Store()

    def asked_to_stop() -> None:
        with made(store, 2):
            store.set("beat/1", "host7 failed what has started it is gone")
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        asked_to_stop()
    assert wait_for(left).startswith("Rank 1 on host7 failed (what has started it is gone)")


def test_a_lost_connection_waits_for_its_cause(left):
    store, begin = Store(), time.monotonic()
    with made(store, 1, 2) as one, made(store, 0, 2):
        one.tell(KeyError("loss"))
        assert time.monotonic() - begin < 0.4
    with made(Store(), 1, 2) as one:
        begin = time.monotonic()
        heeded = signal.getsignal(signal.SIGTERM)
        one.tell(RuntimeError("Connection closed by peer"))
        assert time.monotonic() - begin > 0.4
        assert signal.getsignal(signal.SIGTERM) == heeded, "it is unheard no longer than that"


def test_rank_0_keeps_the_store_until_all_have_ended(left):
    store = Store()
    other = made(store, 1, 2)
    with other:
        begin = time.monotonic()
        with made(store, 0, 2):
            time.sleep(0.1)
        assert time.monotonic() - begin > 0.4, "it is waited for"
    with made(store, 1, 2) as other, made(store, 0, 2):
        other.word = "end"
        begin = time.monotonic()
        time.sleep(0.1)
    assert time.monotonic() - begin < 5
