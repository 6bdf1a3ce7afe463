"""Run folders: where a run keeps its settings, its numbers and its checkpoints. Light: imports no torch."""

import contextlib
import itertools
import json
import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from costate.config.composing import PLACES, places, todays
from costate.config.schema import SettingError, completed
from costate.config.words import pasted
from costate.execution.launching import meeting
from costate.execution.launching.supervisor import is_supervised
from costate.runs.files import write

REPLACEABLE = {"trainer", "execution", "workers", "compile", "channels_last"}
REPLACEABLE |= {"epochs", "callbacks", "logger", "labels", "summary"}
"""Settings that may change when a run is resumed: they are no part of what is trained, but for some of an execution."""

OF_THE_TRAINING = ("lag", "wire", "later")
OF_THE_STEPS = ("precision", "train_batches", "eval_batches")
"""Settings of an execution that do change numbers, and those of a trainer, which change where they are named alone."""

JOB = "job.json"
"""What a sweep leaves in the folder of each of its jobs."""

LOCK = "run.lock"
"""Locked by whoever trains a run; the file stays, the lock ends with its process."""

_made: set[Path] = set()


def note(path: Path) -> None:
    """Remembers of a file or folder that is about to be made, and of those above it, which are not there yet."""
    path = path.absolute()
    _made.update(place for place in (path, *path.parents) if not place.exists())


class Beginning(Callback):
    """Looks, before Hydra makes the folder of a run, what is there already."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        note(Path(config.hydra.run.dir))


class TakenError(SettingError):
    """The folder of a new run holds another one."""


def fresh(resume: str | None, root: str, date: str, time: str) -> str:
    """The folder to go on in, or a new one that no other run has."""
    if resume is not None:
        # Hydra makes it, which it cannot where a checkpoint lies.
        return str(Path(resume).parent) if Path(resume).is_file() else resume
    return meeting.kept(root, lambda: _make(root, date, time))


def _make(root: str, date: str, time: str) -> str:
    parent = Path(root) / date
    note(parent)
    parent.mkdir(parents=True, exist_ok=True)
    for n in itertools.count(1):
        folder = parent / (time if n == 1 else f"{time}-{n}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            _made.add(folder.absolute())
            return str(folder)
    raise AssertionError("count() has no end")


def sweep_of(folder: Path) -> str | None:
    """The name of the sweep that a run's folder belongs to, as W&B shows it; None for a single run."""
    if not (folder / JOB).exists():
        return None
    parent = folder.absolute().parent
    return f"{parent.parent.name}/{parent.name}"


OmegaConf.register_new_resolver("run_folder", fresh, use_cache=True, replace=True)


class RunFolder:
    """The files of one run, whose folder need not be there yet; `overrides` are what the command line sets."""

    def __init__(self, path: str | Path, overrides: Iterable[str] = ()):
        self.path = Path(path).absolute()
        self.overrides = list(overrides)
        self.config = self.path / "config.yaml"
        self.origin = self.path / "origin.json"
        self.metrics = self.path / "metrics.csv"
        self.summary = self.path / "summary.json"
        self.checkpoints = self.path / "checkpoints"

    def __str__(self) -> str:
        """As short as a user would type it."""
        short = os.path.relpath(self.path)
        return str(self.path) if short.startswith("..") else short

    @property
    def resume(self) -> str:
        """The word that goes on with this run, to be pasted."""
        return pasted("resume", self)

    @property
    def advice(self) -> str:
        """How to go on with this run, or with the sweep that it is a job of."""
        if (self.path / JOB).exists():
            return f"To go on with the sweep, {self._again(self.path.parent)}"
        return f"To go on: python train.py {self.resume}"

    def _again(self, sweep: Path) -> str:
        if (sweep / "study.db").exists():
            return f"python -m costate.search --folder {shlex.quote(str(RunFolder(sweep)))}."
        place = pasted("hydra.sweep.dir", RunFolder(sweep))
        return f"give the same command once more with {place}: it leaves alone what has ended."

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps others from training this run; it ends with the process, however that ends.

        Raises:
            SettingError: somebody is training it.
        """
        if meeting.rank() not in (None, 0) or is_supervised():  # somebody holds it for them
            yield
            return
        note(self.path / LOCK)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise SettingError(f"{self} is being trained by another process: wait for its end, or stop it.") from None
        except OSError as fault:
            raise SettingError(f"{self} cannot be written to ({fault.strerror or fault}).") from fault
        try:
            yield
        finally:
            lock.release()

    def goes_on(self, cfg: DictConfig) -> bool:
        """Whether a command without resume= has been given before, and its run is there to go on with.

        Raises:
            TakenError: there is another run in the folder.
        """
        if is_supervised():
            return False
        return meeting.agreed("goes on", lambda: str(self._is_mine(cfg))) == "True"

    def _is_mine(self, cfg: DictConfig) -> bool:
        if not self.config.exists():
            return False
        with contextlib.suppress(ValueError):  # its classes have gone
            if completed(todays(_read(self.origin).get("settings", {}))) == _compared(cfg):
                # What was stopped before its first checkpoint begins again.
                return any(self.checkpoints.glob("*.ckpt")) or bool(self.results())
        raise TakenError(f"{self} holds a run: go on with it by {self.resume}, or choose another folder.")

    def begin(self, cfg: DictConfig, composed: DictConfig) -> None:
        """Keeps the settings, and those that the command line had; results of an earlier end no longer hold."""
        self.summary.unlink(missing_ok=True)
        if not self.config.exists() or not any(self.checkpoints.glob("*.ckpt")):
            origin = {"overrides": self.overrides, "settings": _compared(composed)}
            write(self.origin, json.dumps(origin, indent=2) + "\n")
        write(self.config, OmegaConf.to_yaml(cfg))

    def end(self, results: dict[str, Any]) -> None:
        """Keeps the results: a run with a summary has ended, with an `error` it has failed."""
        write(self.summary, json.dumps(results | {"overrides": self.overrides}, indent=2) + "\n")

    def results(self) -> dict[str, Any]:
        """What `end` kept, or nothing; a file that is damaged says nothing of how the run has ended."""
        return _read(self.summary)

    def is_finished(self, cfg: DictConfig) -> bool:
        """Whether there is nothing left of what the settings ask for.

        Raises:
            SettingError: they ask for less than is done; or there is something left, and no checkpoint to go on from.
        """
        results = self.results()
        if "epochs" in results and "error" not in results:
            saved: Any = OmegaConf.load(self.config)
            if cfg.epochs < min(results["epochs"], saved.epochs):
                raise SettingError(f"epochs={cfg.epochs} is less than the {results['epochs']} that {self} has done.")
            # Early stopping ends a run before its last epoch.
            if results["epochs"] >= cfg.epochs or (saved.epochs, saved.callbacks) == (cfg.epochs, cfg.callbacks):
                return True
        if not (self.checkpoints / "last.ckpt").exists():
            last, best = (RunFolder(self.checkpoints / name) for name in ("last.ckpt", "best.ckpt"))
            way = f"cp {shlex.join([str(best), str(last)])} lets it go on from its best epoch"
            raise SettingError(
                f"{last} is not there, and without it {self} cannot go on: "
                + (f"{way}." if best.path.exists() else "start a new run, without resume=.")
            )
        return False

    def discard(self) -> None:
        """Removes the folder, and those above it, as far as this process has made them and nothing is in them."""
        lock = self.path / LOCK
        with contextlib.suppress(OSError):
            if lock in _made:
                lock.unlink(missing_ok=True)
            for place in itertools.takewhile(_made.__contains__, (self.path, *self.path.parents)):
                place.rmdir()

    def saved(self, cfg: DictConfig) -> DictConfig:
        """The settings that the run was started with, and on top those of this command line that may change.

        Raises:
            SettingError: there is no run in the folder, or the command line asks for another one.
        """
        if not self.config.exists():
            if any(self.path.glob(f"*/{JOB}")):
                raise SettingError(
                    f"{self.resume}: a sweep is there, of several runs: to go on, {self._again(self.path)}"
                )
            at = next((f": {RunFolder(p).resume}" for p in self.path.parents if (p / "config.yaml").exists()), "")
            raise SettingError(f"{self.resume}: no run is there (a run's folder has a config.yaml){at}.")
        saved = self._load()
        for override in OverridesParser.create().parse_overrides(self.overrides):
            # conf/method/synthesizer is chosen as method/synthesizer and lies at method.synthesizer.
            key = override.key_or_group.replace("/", ".")
            axis, _, name = key.partition(".")
            before, now = OmegaConf.select(saved, key, default="nowhere"), OmegaConf.select(cfg, key)
            if key == "execution":
                # Another execution brings its trainer's processes.
                saved.execution = _with(saved.execution, cfg.execution, *OF_THE_TRAINING)
                saved.trainer = _with(saved.trainer, cfg.trainer, *OF_THE_STEPS)
                if "workers" in cfg:
                    # As it is written: the number follows from the saved settings.
                    saved.workers = OmegaConf.to_container(cfg)["workers"]  # type: ignore[index, call-overload]
            elif key == "trainer":
                saved.trainer = _with(saved.trainer, now, *OF_THE_STEPS)
            elif key in PLACES or (axis in REPLACEABLE and not (axis == "execution" and name in OF_THE_TRAINING)):
                OmegaConf.update(saved, key, now, merge=False, force_add=True)
            elif key != "resume" and before != now:
                raise SettingError(f"{key} cannot change when a run is resumed: start a new run, without resume=.")
        return saved

    def kept(self, cfg: DictConfig) -> DictConfig:
        """The settings that the run was started with by this very command, but for the places of its data."""
        saved = self._load()
        for key in places(cfg.get("data")):
            if (place := OmegaConf.select(cfg, key)) is not None:
                OmegaConf.update(saved, key, place)
        return saved

    def _load(self) -> DictConfig:
        try:
            saved = OmegaConf.load(self.config)
        except (OSError, ValueError, YAMLError) as fault:
            raise SettingError(f"{self}/config.yaml cannot be read: {str(fault).splitlines()[0]}.") from fault
        try:
            saved = OmegaConf.create(todays(OmegaConf.to_container(saved)))
        except ValueError as fault:
            raise SettingError(f"{self}: {fault}") from None
        assert isinstance(saved, DictConfig)
        origin = _read(self.origin)
        for key, variable in places(saved.get("data")).items():
            # A folder that the command line has named counts more than the environment, as in a new run.
            named = any(word.lstrip("+").startswith(f"{key}=") for word in origin.get("overrides", ()))
            if origin and variable in os.environ and not named and OmegaConf.select(saved, key) is not None:
                OmegaConf.update(saved, key, os.environ[variable])
        return saved


def _read(path: Path) -> dict[str, Any]:
    """What a file of a run says, or nothing where it is not there or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _with(saved: Any, now: Any, *names: str) -> Any:
    """Today's settings with the saved ones of these names, where both have them: they are part of what is trained."""
    return OmegaConf.merge(now, {name: saved[name] for name in set(names) & saved.keys() & now.keys()})


def _compared(cfg: DictConfig) -> Any:
    """What makes a run the same as another: all but the places of its data."""
    settings = cfg.copy()
    for key in places(settings.get("data")):
        if OmegaConf.select(settings, key) is not None:
            OmegaConf.update(settings, key, None)
    return completed(json.loads(json.dumps(OmegaConf.to_container(settings))))
