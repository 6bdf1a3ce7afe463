"""A row and a seed make a run: where it lies, whether it has ended with these settings, how it is started."""

import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from costate.config import CONF
from costate.config.composing import composed
from costate.experiments.headers import Row
from costate.runs import RunFolder, program
from costate.runs.writing import write

MADE_OF = ("src", "conf", "train.py")
ORDER = "run.json"
"""What was asked for, in the folder of each run."""
METRICS = {"test/accuracy": 1, "test/mse": -1}
"""What is measured, with the sign by which more of it is better."""


@dataclass(frozen=True)
class Result:
    """What came of a run: its numbers, or the sentence that it failed with, or neither; when it ended, and with what
    code, where that is known.
    """

    numbers: dict[str, Any] | None = None
    error: str | None = None
    day: str = ""
    commit: str = ""


def settings(*overrides: str) -> dict[str, Any]:
    """What train.py would make of these overrides, without the place of the data."""
    cfg: Any = OmegaConf.to_container(composed(*overrides), resolve=True)
    cfg["data"] = {name: value for name, value in cfg["data"].items() if name not in ("root", "cache")}
    return cfg


def commit() -> str:
    """The git commit of what a run is made by, with a + if that has been changed; nothing where there is no git."""
    return (_git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", *MADE_OF) else "")).lstrip("+")


def seeds(row: Row, folder: Path) -> list[int]:
    """Those of which there is a folder."""
    names = [path.name.removeprefix("seed") for path in Run(row, 0, folder).folder.parent.glob("seed*")]
    return sorted(int(name) for name in names if name.isdecimal())


class Run:
    """One row with one seed.

    Args:
        folder: of all runs.
    """

    def __init__(self, row: Row, seed: int, folder: Path):
        self.row, self.seed = row, seed
        words = "-".join(row.overrides[1:]) or "as it is"
        self.folder = folder / row.experiment / re.sub(r"[^\w.]+", "-", words).strip("-") / f"seed{seed}"

    @cached_property
    def order(self) -> dict[str, Any]:
        """What has to be the same for a result to be this run's."""
        given = [*self.row.overrides, f"seed={self.seed}"]
        return json.loads(json.dumps({"costate": version("costate"), "given": given, "settings": settings(*given)}))

    @property
    def alone(self) -> bool:
        """Whether it has several processes, so that nothing should run beside it."""
        return self.order["settings"]["trainer"]["devices"] > 1

    def result(self) -> Result:
        """Of this very run; of another version, or with other settings, it is none."""
        order = _read(self.folder / ORDER)
        # To compose the settings takes time: only where something has been run.
        if not order or {key: order.get(key) for key in self.order} != self.order:
            return Result()
        numbers, error = RunFolder(self.folder).results(), order.get("error")
        ended = order.get("day", ""), order.get("commit", "")
        return Result(numbers, None, *ended) if numbers else Result(None, error)

    def perform(self) -> Result:
        """Runs it, in place of what an earlier version, or one that was stopped, has left in the folder.

        Raises:
            ValueError: something else lies there.
            KeyboardInterrupt: the run was stopped; it has neither ended nor failed.
        """
        if self.folder.exists():
            if not (self.folder / ORDER).exists() and any(self.folder.iterdir()):
                raise ValueError(f"{self.folder} holds something that is no run of an experiment: choose other --runs.")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        # The commit is no part of the order: a result is not done again for every commit.
        started = self.order | {"commit": commit()}
        self._keep(started)
        try:
            program.run(self.folder, *self.order["given"])
        except ValueError as error:
            self._keep(started | {"error": str(error)})
        else:
            self._keep(started | {"day": date.today().isoformat()})
        return self.result()

    def _keep(self, order: dict[str, Any]) -> None:
        write(self.folder / ORDER, json.dumps(order, indent=2) + "\n")


def line(run: Run, result: Result, since: float) -> str:
    """How a run has ended, on one line."""
    name = f"{' '.join(run.row.overrides)} seed={run.seed}".removeprefix("experiment=")
    if result.numbers is None:
        return f"{name}: failed: {result.error}"
    scores = [f"{k} {v:.4g}" for k, v in result.numbers.items() if k in METRICS]
    return f"{name}: {(scores or ['ended'])[0]} in {time.monotonic() - since:.0f} s"


def _git(*words: str) -> str:
    """What git says; nothing where it is not installed, or knows of no repository."""
    try:
        return subprocess.run(["git", *words], cwd=CONF.parent, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
