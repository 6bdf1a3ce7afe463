"""Signals that ask a run to stop, and who else wants to hear of them. Light: imports no torch.

SIGINT and SIGTERM stop a run. SIGUSR1 and SIGUSR2 announce that its place is taken from it: they count where somebody
listens to them (submitit) or a job of SLURM runs (`--signal=USR1@90`), and the job is queued again once it is saved.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, final

STOPS = (signal.SIGINT, signal.SIGTERM)
PREEMPTIONS = (signal.SIGUSR1, signal.SIGUSR2)

ECHO = 2.0
"""Seconds in which signals are one: a time limit, or a terminal, tells every process, some by way of another."""


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def hand_over(self) -> None:
        """After a preemption, when all is saved: to who listened before, or back into the queue of SLURM."""
        handler = self._before.get(self._preemption)
        if callable(handler):
            handler(self._preemption, None)
        elif self._preemption and (job := _slurm_job()):
            subprocess.run(["scontrol", "requeue", job], check=False)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum in PREEMPTIONS:
            self._preemption = signum
        if not self.signum:
            self.signum, self._since = signum, time.monotonic()
            self.stop(signum)
        elif time.monotonic() - self._since >= self.echo:
            self.again(signum)


def _slurm_job() -> str | None:
    """As scontrol calls this job."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")
