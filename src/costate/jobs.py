"""Runs of train.py as processes of their own: for searches, notebooks and whoever compares. Light: imports no torch."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import costate
from costate.words import override

PROGRAM = Path(costate.__file__).parents[2] / "train.py"
INTERRUPTED = {sign for signum in (signal.SIGINT, signal.SIGTERM) for sign in (128 + signum, -signum)}
"""Exit codes of a run that was asked to stop: as it says itself, and where it did not come to that."""


def start(overrides: Sequence[str], log: Path | None = None) -> subprocess.Popen[bytes]:
    """python train.py ..., its words into a file if there is one to be.

    Raises:
        ValueError: costate is installed without the repository that train.py and conf/ lie in.
    """
    if not PROGRAM.exists():
        raise ValueError(f"{PROGRAM} is not there: install costate from its repository with pip install -e.")
    # A process that starts imports this costate and no other.
    path = os.pathsep.join([str(PROGRAM.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    output = log.open("ab") if log else None
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen([sys.executable, str(PROGRAM), *overrides], stdout=output, stderr=output, env=environment)


def run(folder: Path | str, *overrides: str) -> Path:
    """A run, or with "-m" a sweep, to its end, in a folder of its own; what has ended is left alone.

    Returns:
        the folder.

    Raises:
        ValueError: it was refused, or failed.
        KeyboardInterrupt: it was asked to stop, as by Ctrl-C, which every process of a terminal is told.
    """
    folder = Path(folder)
    if (folder / "summary.json").exists():
        return folder
    kind = "sweep" if "-m" in overrides else "run"
    where = [override(f"hydra.{kind}.dir", folder.absolute()), "trainer.progress=none"]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "train.log"
    code = start([*overrides, *where], log).wait()
    if code in INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise ValueError(f"train.py {' '.join(overrides)}: {reason(code, log)}")
    return folder


def reason(code: int, log: Path) -> str:
    """Why a process has failed: the last line that it said, if it had the time for one."""
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it ended with exit code {code}"
