"""Runs of train.py as processes of their own: for searches, notebooks and whoever compares. Light: imports no torch."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import costate

PROGRAM = Path(costate.__file__).parents[2] / "train.py"


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
    """A run, or with "-m" a sweep, to its end, in a folder of its own; one that has ended is left alone.

    Returns:
        the folder.

    Raises:
        ValueError: it was refused, or failed.
    """
    folder = Path(folder)
    ends = "summary.csv" if "-m" in overrides else "summary.json"
    if (folder / ends).exists():
        return folder
    where = [f"hydra.{'sweep' if '-m' in overrides else 'run'}.dir='{folder.absolute()}'", "trainer.progress=none"]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "train.log"
    if start([*overrides, *where], log).wait():
        raise ValueError(f"train.py {' '.join(overrides)}: {log.read_text().strip().splitlines()[-1]}")
    return folder
