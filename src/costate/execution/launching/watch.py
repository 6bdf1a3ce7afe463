"""Ranks that no supervisor looks after look after each other: of a host that is gone no connection tells for long.

Each rank writes a number that rises into the store by which ranks have met, and reads those of the others. A rank whose
number rests is gone, and so is the store's host where the store does not answer: then a rank ends, in one sentence that
names it.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from costate.execution.launching.supervisor import advice, in_words

BEAT = 0.5
"""Seconds from one number to the next."""
SILENCE, FIRST = 15.0, 45.0
"""Seconds after which a rank that was heard of is gone, and one that never was: starting takes its time."""
NAP = 4.0
"""Seconds after which it is we who have slept."""
END, FAILED = "end", "failed"
PARENT = os.getppid()
"""Asked as early as can be: one that is killed while its ranks begin has left them, too."""


@final
class Watch:
    """Of one rank, for as long as it is entered.

    Args:
        store: a connection of its own to where ranks meet: one that waits keeps all others waiting.
        host: what the store's is called.
        announce: called with each number.

    Attributes:
        folder: of the run, once it is known, for the sentence to name its checkpoint.
        word: the last one, once it has been said.
    """

    def __init__(self, store: Any, rank: int, ranks: int, host: str, announce: Callable[[int], None]):
        self.store, self.rank, self.host, self.announce = store, rank, host, announce
        self.folder: Path | None = None
        self.word = ""
        self._others = [r for r in range(ranks) if r != rank]
        self._said: dict[int, list[str]] = {}
        self._awake(time.monotonic())
        self._failed = 0  # beats in a row that did not reach the store
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._look)]

    def __enter__(self) -> "Watch":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None and not self.word:
            # Torchrun may have asked us to stop because of what another rank is about to tell.
            time.sleep(3 * BEAT)
        self.word = self.word or END
        begin = time.monotonic()
        # With rank 0 goes the store, in which the others would look for it in vain.
        while self.rank == 0 and self.word == END and not self._parted() and time.monotonic() - begin < SILENCE:
            time.sleep(BEAT / 2)
        self._over.set()
        for thread in self._threads:
            # A thread at work while the interpreter ends would end it by SIGABRT.
            thread.join(timeout=NAP)

    def tell(self, error: BaseException) -> None:
        """Tells the others of an error; that a connection is lost is a consequence, and waits here for its cause."""
        if isinstance(error, RuntimeError) and not self.word:
            self._wait_for_cause()
        self.word = self.word or f"{FAILED} {' '.join(in_words(error).split())[:300]}"

    def _wait_for_cause(self) -> None:
        # Torchrun loses its own connection to the same host at once, and asks its ranks to end before one has spoken.
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end = time.monotonic() + SILENCE + 2 * BEAT
        while time.monotonic() < end:
            time.sleep(BEAT)
            if self._failed > 1:
                self._end(f"Rank 0 on {self.host} is not reached any more")
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

    def _beat(self) -> None:
        host, count, over = socket.gethostname(), 0, False
        while not over:
            over = self._over.wait(BEAT)
            count += 1
            try:
                self.announce(count)
                self.store.set(f"beat/{self.rank}", f"{host} {self.word or count}")
                self._hear()
                self._failed = 0
            except Exception:  # torch's errors over stores are of many types, and each says that it is not there
                self._failed += 1

    def _hear(self) -> None:
        there = [r for r in self._others if r in self._said or self.store.check([f"beat/{r}"])]
        said = self.store.multi_get([f"beat/{r}" for r in there]) if there else []
        self._reached = now = time.monotonic()
        for r, words in zip(there, (word.decode().split(" ", 2) for word in said), strict=True):
            if words != self._said.get(r):
                self._said[r], self._heard[r] = words, now

    def _look(self) -> None:
        last = time.monotonic()
        while not self._over.wait(BEAT):
            now = time.monotonic()
            if now - last > NAP:
                self._awake(now)
            last = now
            if os.getppid() != PARENT and "TORCHELASTIC_RUN_ID" in os.environ:
                # Killed, torchrun leaves its ranks behind.
                self.word = f"{FAILED} what has started it is gone"
                time.sleep(2 * BEAT)
                self._end("What has started this rank is gone")
            if sentence := self._lost(now):
                self._end(sentence, alone=now - self._reached > SILENCE)

    def _parted(self) -> bool:
        """Whether all others have said their last word."""
        said = dict(self._said)
        return all(r in said and said[r][1] in (END, FAILED) for r in self._others)

    def _awake(self, now: float) -> None:
        self._heard, self._reached = dict.fromkeys(self._others, now), now

    def _lost(self, now: float) -> str:
        """What has become of others, if anything has."""
        said = dict(self._said)
        for r, (host, word, *rest) in said.items():
            if word == FAILED:
                return f"Rank {r} on {host} failed ({' '.join(rest)})"
        if now - self._reached > SILENCE:
            return f"Rank 0 on {self.host} has not been heard of for {SILENCE:g} s"
        gone = [r for r in self._others if now - self._heard[r] > (SILENCE if r in said else FIRST)]
        gone = [r for r in gone if r not in said or said[r][1] != END]
        if not gone:
            return ""
        hosts = sorted({said[r][0] for r in gone if r in said})
        one = len(gone) == 1
        who = f"Rank{'s' * (not one)} {', '.join(map(str, gone))}" + (f" on {', '.join(hosts)}" if hosts else "")
        return f"{who} {'has' if one else 'have'} not been heard of for {SILENCE if hosts else FIRST:g} s"

    def _end(self, sentence: str, alone: bool = False) -> None:
        _leave(f"{sentence}, and this run ended with it: {advice(self.folder)}", alone)


def _leave(sentence: str, alone: bool) -> None:
    """The main thread waits for what will not come: the process ends here, and one rank of each host says why.

    Args:
        alone: whether the host does not answer by which torchrun, too, learns what to do next: unless it is to start us
            again it is ended, or it would wait there for a quarter of an hour.
    """
    told = os.environ
    if told.get("LOCAL_RANK", "0") == "0":
        print(sentence, file=sys.stderr, flush=True)
        if alone and told.get("TORCHELASTIC_RESTART_COUNT", "") == told.get("TORCHELASTIC_MAX_RESTARTS"):
            for signum in (signal.SIGTERM, signal.SIGKILL):
                end = time.monotonic() + NAP
                if os.getppid() == PARENT:
                    os.kill(PARENT, signum)
                while os.getppid() == PARENT and time.monotonic() < end:
                    time.sleep(BEAT / 10)
    os._exit(1)
