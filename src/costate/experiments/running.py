"""A row and a seed make a run: where it lies, whether it has ended with these settings, how it is started."""

import json
import re
import shutil
import time
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from costate import jobs, resolvers
from costate.experiments.headers import Row

CONF = jobs.PROGRAM.parent / "conf"
ORDER = "run.json"
"""What was asked for, in the folder of each run."""


@dataclass(frozen=True)
class Result:
    """What came of a run: its numbers, or the sentence that it failed with, or neither; and when it ended."""

    numbers: dict[str, Any] | None = None
    error: str | None = None
    day: str = ""


def settings(*overrides: str) -> dict[str, Any]:
    """What train.py would make of these overrides, without the place of the data."""
    resolvers.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg: Any = OmegaConf.to_container(compose("config", list(overrides)), resolve=True)
    cfg["data"] = {name: value for name, value in cfg["data"].items() if name not in ("root", "cache")}
    return cfg


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
        numbers, error = _read(self.folder / "summary.json"), order.get("error")
        return Result(numbers, None, order.get("day", "")) if numbers else Result(None, error)

    def perform(self) -> Result:
        """Runs it, in place of what an earlier version, or one that was stopped, has left in the folder.

        Raises:
            ValueError: something else lies there.
        """
        if self.folder.exists():
            if not (self.folder / ORDER).exists() and any(self.folder.iterdir()):
                raise ValueError(f"{self.folder} holds something that is no run of an experiment: choose other --runs.")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        self._keep(self.order)
        try:
            jobs.run(self.folder, *self.order["given"])
        except ValueError as error:
            self._keep(self.order | {"error": str(error)})
        else:
            self._keep(self.order | {"day": date.today().isoformat()})
        return self.result()

    def _keep(self, order: dict[str, Any]) -> None:
        (self.folder / ORDER).write_text(json.dumps(order, indent=2) + "\n", encoding="utf-8")


def line(run: Run, result: Result, since: float) -> str:
    """How a run has ended, on one line."""
    name = f"{' '.join(run.row.overrides)} seed={run.seed}".removeprefix("experiment=")
    if result.numbers is None:
        return f"{name}: failed: {result.error}"
    score = next(f"{k} {v:.4g}" for k, v in result.numbers.items() if k in ("test/accuracy", "test/mse"))
    return f"{name}: {score} in {time.monotonic() - since:.0f} s"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
