"""Starts the ranks of one run on this machine, looks after them, and says in one sentence how they ended.

Light on purpose (no torch): this process only waits.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from costate.config.words import pasted
from costate.execution.launching.signals import ECHO, STOPS, Listener

_REPORT = "COSTATE_RANK_REPORT"
_TICK = 0.05


class RankError(RuntimeError):
    """A rank ended before its time; `code` is the exit code for the whole run."""

    def __init__(self, sentence: str, code: int):
        super().__init__(sentence)
        self.code = code


def report(error: BaseException) -> bool:
    """Leaves an error to the supervisor to tell, once for all ranks; False where this process has none."""
    path = os.environ.get(_REPORT)
    if path is None:
        return False
    sentence = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    told = {"time": time.time(), "sentence": sentence, "traceback": "".join(traceback.format_exception(error))}
    Path(path).write_text(json.dumps(told))
    return True


def is_supervised() -> bool:
    """Whether this process is a rank that a supervisor has started."""
    return _REPORT in os.environ


def tell(signum: int) -> None:
    """Tells the supervisor, if there is one, that this rank was asked to stop, for the others to stop too.

    By a file and not by a signal, so that nobody hears again what he has said.
    """
    if is_supervised():
        Path(os.environ[_REPORT]).with_suffix(".stop").write_text(str(int(signum)))


class _Rank:
    """One child process in a session of its own, so that the terminal's Ctrl-C reaches it through the supervisor alone.

    Rank 0 has the screen; the others write to a file in the run's folder.
    """

    def __init__(self, number: int, command: Sequence[str], environment: Mapping[str, str], folder: Path, reports: str):
        self.number = number
        self._report = Path(reports) / f"{number}.json"
        self.log = folder / f"rank-{number}.log"
        with open(os.devnull if number == 0 else self.log, "w") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment, _REPORT: str(self._report)},
                stdin=subprocess.DEVNULL,
                stdout=None if number == 0 else log,
                stderr=None if number == 0 else log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def code(self) -> int | None:
        """Exit code, minus the signal that ended it, or None while it runs."""
        return self._process.poll()

    @property
    def told(self) -> dict[str, Any]:
        """What the rank left by `report`."""
        try:
            return json.loads(self._report.read_text())
        except (OSError, ValueError):
            return {}

    @property
    def asked(self) -> int:
        """The signal that it was sent by somebody else, as it says by `tell`; 0 if there was none."""
        try:
            return int(self._report.with_suffix(".stop").read_text() or 0)
        except OSError:
            return 0

    def send(self, signum: int) -> None:
        self._process.send_signal(signum)

    def kill(self) -> None:
        """Ends a rank that runs or has failed, and whatever it has started."""
        if self.code != 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def clear(self) -> None:
        if self.number > 0 and self.log.stat().st_size == 0:
            self.log.unlink()


class Supervisor:
    """Runs one command as several ranks.

    Args:
        command: what every rank runs.
        environments: of each rank, on top of this process's own.
        folder: the run's, where `checkpoints/last.ckpt` is looked for.
        grace: seconds that the other ranks have to end by themselves after one has failed.
        patience: seconds that they have to save a checkpoint after Ctrl-C or SIGTERM; a second one ends them at once.
        echo: seconds in which several signals are one.
    """

    def __init__(
        self,
        command: Sequence[str],
        environments: Sequence[Mapping[str, str]],
        folder: Path,
        grace: float = 3.0,
        patience: float = 60.0,
        echo: float = ECHO,
    ):
        self.command, self.environments, self.folder = command, environments, folder
        self.grace, self.patience = grace, patience
        self._ranks: list[_Rank] = []
        self._failed: list[_Rank] = []
        self._signum = 0
        self._hurried = False
        self._listener = Listener(self._stop, self._hurry, echo=echo)

    def run(self) -> None:
        """Returns when all ranks have ended well.

        Raises:
            ValueError: a rank refused its settings (exit code 2), in its own words.
            RankError: a rank failed in any other way.
            SystemExit: the ranks were interrupted, with their exit code.
        """
        with tempfile.TemporaryDirectory() as reports, self._listener:
            try:
                for number, environment in enumerate(self.environments):
                    self._ranks.append(_Rank(number, self.command, environment, self.folder, reports))
                self._watch()
            finally:
                for rank in self._ranks:
                    rank.kill()
                    rank.clear()
            self._conclude()

    def _stop(self, signum: int) -> None:
        self._signum = self._signum or signum

    def _hurry(self, signum: int) -> None:
        self._hurried = True

    def _watch(self) -> None:
        """Until all have ended, or their time is up."""
        deadline = float("inf")
        interrupted = False
        while running := self._running():
            now = time.monotonic()
            self._signum = self._signum or next(filter(None, (rank.asked for rank in self._ranks)), 0)
            if self._signum and not interrupted:
                interrupted, deadline = True, now + self.patience
                for rank in running:
                    rank.send(self._signum if self._signum in STOPS else signal.SIGTERM)
            elif self._failed and not interrupted:
                deadline = min(deadline, now + self.grace)
            if now >= deadline or self._hurried:
                return
            time.sleep(_TICK)

    def _running(self) -> list[_Rank]:
        """Those at work; notes in passing those that have failed, in the order of their failures."""
        # Asked first: a rank that ends while this runs is looked at once more.
        running = [rank for rank in self._ranks if rank.code is None]
        new = [rank for rank in self._ranks if rank.code and rank not in self._failed]
        # Seen in the same tick: a signal from outside is a cause, an error may be its consequence.
        self._failed += sorted(new, key=lambda rank: ((rank.code or 0) > 0, rank.told.get("time", float("inf"))))
        return running

    def _conclude(self) -> None:
        late = [rank.number for rank in self._ranks if rank.code and rank not in self._failed]
        if self._signum:
            if late and not self._hurried:
                _say(f"Ranks {late} had not ended {self.patience:g} s after the interruption and were killed.")
            self._listener.hand_over()
            raise SystemExit(_exit_code((self._failed or self._ranks)[0].code))
        if not self._failed:
            return
        rank = self._cause()
        told = rank.told
        if rank.code == 2 and told:
            raise ValueError(told["sentence"])
        if told:
            _say(told["traceback"])
        sentence = f"Rank {rank.number} of {len(self._ranks)} {_end(rank)}, and the others were ended with it"
        raise RankError(f"{sentence}: {advice(self.folder)}", 1 if told else _exit_code(rank.code))

    def _cause(self) -> _Rank:
        """The first to fail; of those that have said why the first to say so, even if others have ended before it."""
        first = self._failed[0]
        if not first.told:
            return first
        return min((rank for rank in self._ranks if rank.told), key=lambda rank: rank.told["time"])


def _end(rank: _Rank) -> str:
    assert rank.code is not None, "asked of ranks that have ended"
    if sentence := rank.told.get("sentence"):
        return f"failed ({sentence})"
    if rank.code == -signal.SIGKILL:
        return "was killed by SIGKILL (the system does so when memory runs out)"
    if rank.code < 0:
        return f"was ended by {signal.Signals(-rank.code).name}"
    return f"ended with exit code {rank.code}" + (f" (its output: {rank.log})" if rank.log.exists() else "")


def advice(folder: Path | None) -> str:
    """How to go on with the run in a folder, if its ranks had come to have one."""
    if folder is not None and (folder / "checkpoints" / "last.ckpt").exists():
        return f"go on from its last checkpoint with {pasted('resume', folder)}."
    return "there is no checkpoint yet to resume from."


def _exit_code(code: int | None) -> int:
    assert code is not None, "asked of ranks that have ended"
    return code if code >= 0 else 128 - code


def _say(text: str) -> None:
    print(text.rstrip(), file=sys.stderr, flush=True)


def _end_with_parent() -> None:
    """In the child, before it becomes the rank: should the supervisor be killed, so is the rank (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
