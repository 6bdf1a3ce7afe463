"""Starts the ranks of one run on this machine, looks after them, and says in one sentence how they ended.

SIGINT and SIGTERM stop a run. SIGUSR1 and SIGUSR2 announce that its place is taken from it: they count where somebody
listens to them (submitit) or a job of SLURM runs (`--signal=USR1@90`), and the job is queued again once it is saved.

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
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, final

from costate.config.words import pasted

STOPS = (signal.SIGINT, signal.SIGTERM)
PREEMPTIONS = (signal.SIGUSR1, signal.SIGUSR2)

ECHO = 2.0
"""Seconds in which signals are one: a time limit, or a terminal, tells every process, some by way of another."""

_REPORT = "COSTATE_RANK_REPORT"


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
    told = {"time": time.time(), "sentence": in_words(error), "traceback": "".join(traceback.format_exception(error))}
    Path(path).write_text(json.dumps(told))
    return True


def in_words(error: BaseException) -> str:
    """A ValueError is a sentence for users; of others one wants to know what they are."""
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def is_supervised() -> bool:
    """Whether this process is a rank that a supervisor has started."""
    return _REPORT in os.environ


def tell(signum: int) -> None:
    """Tells the supervisor, if there is one, that this rank was asked to stop, for the others to stop too.

    By a file and not by a signal, so that nobody hears again what he has said.
    """
    if is_supervised():
        Path(os.environ[_REPORT]).with_suffix(".stop").write_text(str(int(signum)))


@final
class Listener:
    """While it is entered, signals that ask to stop are noted; who listened before does so again behind it.

    Args:
        stop: called at the first signal.
        again: called at one that comes later than `echo` seconds behind it.
        all: whether preemptions count wherever the process runs.
    """

    def __init__(
        self, stop: Callable[[int], None], again: Callable[[int], None], *, all: bool = False, echo: float = ECHO
    ):
        self.stop, self.again, self.all, self.echo = stop, again, all, echo
        self.signum = 0
        """The first signal; 0 before it."""
        self._since = 0.0
        self._preemption = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Listener":
        if threading.current_thread() is threading.main_thread():  # others may not
            for signum in (*STOPS, *PREEMPTIONS):
                if signum in STOPS or self.all or callable(signal.getsignal(signum)) or "SLURM_JOB_ID" in os.environ:
                    self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def hand_over(self) -> None:
        """After a preemption, when all is saved: to who listened before, or back into the queue of SLURM."""
        handler = self._before.get(self._preemption)
        if callable(handler):
            handler(self._preemption, None)
        elif self._preemption and "SLURM_JOB_ID" in os.environ:
            of_array = "SLURM_ARRAY_JOB_ID" in os.environ
            job = "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}" if of_array else "{SLURM_JOB_ID}"
            subprocess.run(["scontrol", "requeue", job.format_map(os.environ)], check=False)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum in PREEMPTIONS:
            self._preemption = signum
        if not self.signum:
            self.signum, self._since = signum, time.monotonic()
            self.stop(signum)
        elif time.monotonic() - self._since >= self.echo:
            self.again(signum)


class _Rank:
    """One child process in a session of its own, so that the terminal's Ctrl-C reaches it through the supervisor alone.

    Rank 0 has the screen; the others write to a file in the run's folder.
    """

    def __init__(self, number: int, command: Sequence[str], environment: Mapping[str, str], folder: Path, reports: str):
        self.number = number
        self._report = Path(reports) / f"{number}.json"
        self.log = folder / f"rank-{number}.log"
        with open(os.devnull if number == 0 else self.log, "w") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environment, _REPORT: str(self._report)},
                stdin=subprocess.DEVNULL,
                stdout=None if number == 0 else log,
                stderr=None if number == 0 else log,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    @property
    def code(self) -> int | None:
        """Exit code, minus the signal that ended it, or None while it runs."""
        return self.process.poll()

    @property
    def status(self) -> int:
        """The exit code of one that has ended, as a shell has it."""
        assert self.code is not None, "asked of ranks that have ended"
        return self.code if self.code >= 0 else 128 - self.code

    @property
    def end(self) -> str:
        """How it has ended."""
        if sentence := self.told.get("sentence"):
            return f"failed ({sentence})"
        if self.code == -signal.SIGKILL:
            return "was killed by SIGKILL (the system does so when memory runs out)"
        if self.code != self.status:
            return f"was ended by {signal.Signals(self.status - 128).name}"
        return f"ended with exit code {self.code}" + (f" (its output: {self.log})" if self.log.exists() else "")

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

    def kill(self) -> None:
        """Ends a rank that runs or has failed, and whatever it has started; a log without a word goes."""
        if self.code != 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.number > 0 and self.log.exists() and self.log.stat().st_size == 0:
            self.log.unlink()


@final
@dataclass(eq=False)
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

    command: Sequence[str]
    environments: Sequence[Mapping[str, str]]
    folder: Path
    grace: float = 3.0
    patience: float = 60.0
    echo: float = ECHO

    def __post_init__(self) -> None:
        self._ranks: list[_Rank] = []
        self._failed: list[_Rank] = []
        self._hurried = threading.Event()
        self._listener = Listener(lambda signum: None, lambda signum: self._hurried.set(), echo=self.echo)
        self._signum = 0

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
            self._conclude()

    def _watch(self) -> None:
        """Until all have ended, or their time is up."""
        deadline = float("inf")
        while running := self._running():
            now = time.monotonic()
            asked = (self._listener.signum, *(rank.asked for rank in self._ranks))
            if not self._signum and any(asked):
                self._signum, deadline = next(filter(None, asked)), now + self.patience
                for rank in running:
                    rank.process.send_signal(self._signum if self._signum in STOPS else signal.SIGTERM)
            elif self._failed and not self._signum:
                deadline = min(deadline, now + self.grace)
            if now >= deadline or self._hurried.is_set():
                return
            time.sleep(0.05)

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
        spoken = sorted((rank for rank in self._ranks if rank.told), key=lambda rank: rank.told["time"])
        if self._signum or self._listener.signum:
            said = spoken[0].told["traceback"].rstrip() if spoken else ""
            if late and not self._hurried.is_set():
                said += f"\nRanks {late} had not ended {self.patience:g} s after the interruption and were killed."
            if said and not self._hurried.is_set():
                # Without a word nobody would look for the checkpoint that is missing.
                print(said.strip(), file=sys.stderr, flush=True)
            self._listener.hand_over()
            raise SystemExit((self._failed or self._ranks)[0].status)
        if not self._failed:
            return
        # The first to fail; of those that have said why the first to say so, even if others have ended before it.
        rank = spoken[0] if self._failed[0].told else self._failed[0]
        told = rank.told
        if rank.code == 2 and told:
            raise ValueError(told["sentence"])
        if told:
            print(told["traceback"].rstrip(), file=sys.stderr, flush=True)
        sentence = f"Rank {rank.number} of {len(self._ranks)} {rank.end}, and the others were ended with it"
        raise RankError(f"{sentence}: {advice(self.folder)}", 1 if told else rank.status)


def advice(folder: Path | None) -> str:
    """How to go on with the run in a folder, if its ranks had come to have one."""
    if folder is not None and (folder / "checkpoints" / "last.ckpt").exists():
        return f"go on from its last checkpoint with {pasted('resume', folder)}."
    return "there is no checkpoint yet to resume from."


def end_with_parent() -> None:
    """In a child, before it becomes what it is started for: should its parent be killed, so is it (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
