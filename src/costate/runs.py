"""Run folders: where a run keeps its settings, its numbers and its checkpoints. Light: imports no torch."""

import contextlib
import json
import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from costate import resolvers
from costate.execution import launch
from costate.schema import SettingError

REPLACEABLE = {"epochs", "trainer", "callbacks", "logger", "labels", "execution", "workers", "summary"}
"""Settings that may change when a run is resumed: they are no part of what is trained, but for the lag."""


JOB = "job.json"
"""What a sweep leaves in the folder of each of its jobs."""


class TakenError(SettingError):
    """The folder of a new run holds another one."""


def fresh(resume: str | None, root: str, date: str, time: str) -> str:
    """The folder to go on in, or a new one that no other run has."""
    return resume if resume is not None else launch.agreed(root, lambda: _make(root, date, time))


def _make(root: str, date: str, time: str) -> str:
    (Path(root) / date).mkdir(parents=True, exist_ok=True)
    for n in count(1):
        folder = Path(root) / date / (time if n == 1 else f"{time}-{n}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return str(folder)
    raise AssertionError("count() has no end")


def sweep_of(folder: Path) -> str | None:
    """The name of the sweep that a run's folder belongs to, as `tracking` shows it; None for a single run."""
    if not (folder / JOB).exists():
        return None
    parent = folder.absolute().parent
    return f"{parent.parent.name}/{parent.name}"


OmegaConf.register_new_resolver("run_folder", fresh, use_cache=True, replace=True)
resolvers.register()


class RunFolder:
    """The files of one run.

    Args:
        path: of the folder, which need not be there yet.
        overrides: what the command line sets.
    """

    def __init__(self, path: str | Path, overrides: Iterable[str] = ()):
        self.path = Path(path).absolute()
        self.overrides = list(overrides)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.csv"
        self.summary = self.path / "summary.json"

    def __str__(self) -> str:
        """As short as a user would type it."""
        short = os.path.relpath(self.path)
        return str(self.path) if short.startswith("..") else short

    def claim(self) -> None:
        """For a new run.

        Raises:
            TakenError: there is a run in the folder.
        """
        # The other ranks of a run come when rank 0 may have begun.
        if launch.rank() in (None, 0) and self.config.exists():
            raise TakenError(f"{self} holds a run: go on with it by resume={self}, or choose another folder.")

    def begin(self, cfg: DictConfig) -> None:
        """Keeps the settings; results of an earlier end no longer hold."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.summary.unlink(missing_ok=True)
        OmegaConf.save(cfg, self.config)

    def end(self, results: dict[str, Any]) -> None:
        """Keeps the results: a run with a summary has ended, with an `error` it has failed."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(results | {"overrides": self.overrides}, indent=2)
        self.summary.write_text(text + "\n", encoding="utf-8")

    def results(self) -> dict[str, Any]:
        """What `end` kept, or nothing; a file that is damaged says nothing of how the run has ended."""
        try:
            found = json.loads(self.summary.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def discard(self) -> None:
        """Removes the folder, and those above it up to the working directory, if nothing is in them."""
        here = Path.cwd()
        with contextlib.suppress(OSError):
            self.path.rmdir()
            for folder in self.path.parents:
                if here not in folder.parents:
                    break
                folder.rmdir()

    def saved(self, cfg: DictConfig) -> DictConfig:
        """The settings that the run was started with, and on top those of this command line that may change.

        Raises:
            SettingError: there is no run in the folder, or the command line asks for another one.
        """
        if not self.config.exists():
            raise SettingError(f"resume={self}: no run is there (a run's folder has a config.yaml).")
        saved = OmegaConf.load(self.config)
        assert isinstance(saved, DictConfig)
        for override in OverridesParser.create().parse_overrides(self.overrides):
            # conf/method/synthesizer is chosen as method/synthesizer and lies at method.synthesizer.
            key = override.key_or_group.replace("/", ".")
            before, now = OmegaConf.select(saved, key, default="nowhere"), OmegaConf.select(cfg, key)
            if key == "execution":
                # Another execution brings its trainer's processes; the lag, where there is one, is part of what is
                # trained.
                same = {"lag"} & saved.execution.keys() & cfg.execution.keys()
                saved.execution = OmegaConf.merge(cfg.execution, {name: saved.execution[name] for name in same})
                saved.trainer = cfg.trainer
                if "workers" in cfg:
                    # As it is written: the number follows from the saved settings.
                    saved.workers = OmegaConf.to_container(cfg)["workers"]  # type: ignore[index, call-overload]
            elif key.split(".")[0] in REPLACEABLE and key != "execution.lag":
                OmegaConf.update(saved, key, now, merge=False, force_add=True)
            elif key != "resume" and before != now:
                raise SettingError(f"{key} cannot change when a run is resumed: start a new run, without resume=.")
        return saved
