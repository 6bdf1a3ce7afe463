"""The search itself: Optuna's ask and tell, with trials kept in SQLite and in run folders.

Several processes may search in one folder at once. Each holds the lock of the trial that it runs, so a trial that is
running by the database and whose lock is free was left by a process that is gone, and is taken up again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock, Timeout
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.trial import Trial, TrialState
from sqlalchemy import URL

from costate.reports import sweep
from costate.runs import RunFolder
from costate.search.space import Space
from costate.search.trial import TrialError, TrialRun

Direction = Literal["minimize", "maximize"]
STARTUP = 5
"""Trials before anything is pruned."""


class Search:
    """A study in a folder: study.db, a run folder for each trial, and the tables of a sweep.

    Args:
        folder: of the study; one that is there is gone on with.
        words: what is searched and what stays; none for a study that is there.
        metric: number of a run's results that counts, logged once an epoch.
        direction: whether a good one is low or high.
        prune: whether trials whose metric is worse than the median of the others at the same epoch are stopped.
        seed: of what is proposed.

    Raises:
        ValueError: the study is there and searches something else, or is not there and has nothing to search.
    """

    def __init__(self, folder: Path, words: list[str], *, metric: str, direction: Direction, prune: bool, seed: int):
        self.folder = folder.absolute()
        if not words and not (self.folder / "study.db").exists():
            raise ValueError(f"{folder} holds no study: say what to search.")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        pruner: BasePruner = MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=1) if prune else NopPruner()
        self.study = optuna.create_study(
            # Written out here, a name with ? or % in it would be that of another file.
            storage=URL.create("sqlite", database=str(self.folder / "study.db")).render_as_string(),
            study_name="costate",
            load_if_exists=True,
            direction=direction,
            pruner=pruner,
            sampler=TPESampler(seed=seed, constant_liar=True),
        )
        wanted: dict[str, Any] = {"words": words, "metric": metric, "direction": direction}
        kept: dict[str, Any] = self.study.user_attrs or wanted
        for name, value in wanted.items():
            if words and kept.get(name) != value:
                raise ValueError(f"{folder} holds a study of {kept.get(name)}: choose another folder for {value}.")
            self.study.set_user_attr(name, kept[name])
        self.space, self.metric = Space(kept["words"]), kept["metric"]

    def run(self, trials: int) -> None:
        """Takes up what was left, and goes on to so many trials in all, those of other processes included."""
        while True:
            with self._next(trials) as trial:
                if trial is None:
                    return
                self._try(trial)
            sweep.write(self.folder)

    @contextmanager
    def _next(self, trials: int) -> Iterator[Trial | None]:
        """A trial that nobody else runs, under its lock."""
        # Under a lock of the study: between a new trial and its lock nobody may take it for one that was left.
        with FileLock(self.folder / "study.lock"):
            trial, lock = self._left()
            if trial is None and len(self.study.get_trials(deepcopy=False)) < trials:
                trial = self.study.ask(self.space.searched)
                lock = self._lock(trial)
                lock.acquire()
        try:
            yield trial
        finally:
            if lock is not None:
                lock.release()

    def _left(self) -> tuple[Trial | None, FileLock | None]:
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial = Trial(self.study, frozen._trial_id)
            lock = self._lock(trial)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return trial, lock
        return None, None

    def _lock(self, trial: Trial) -> FileLock:
        return FileLock(self.folder / f".{trial.number}.lock")

    def _try(self, trial: Trial) -> None:
        overrides = self.space.overrides(trial.params)
        run = TrialRun(self.folder / str(trial.number), trial.number, overrides, self.metric)
        known = set(self.study.trials[trial.number].intermediate_values)
        told = " ".join(f"{key}={value}" for key, value in trial.params.items())
        print(f"trial {trial.number}: {told}", flush=True)

        def prune(epoch: int, value: float) -> bool:
            if epoch not in known:
                trial.report(value, epoch)
            return bool(trial.should_prune())

        try:
            value = run.run(prune)
        except TrialError as error:
            self.study.tell(trial, state=TrialState.FAIL)
            print(f"trial {trial.number} failed: {error}", flush=True)
            return
        self.study.tell(trial, value, state=TrialState.PRUNED if value is None else TrialState.COMPLETE)
        print(f"trial {trial.number}: " + ("pruned" if value is None else f"{self.metric} {value:.4g}"), flush=True)

    def best_epoch(self) -> int | None:
        """The epoch of the best trial that its metric is of; None where the metric is of no single one."""
        results = RunFolder(self.folder / str(self.study.best_trial.number)).results()
        names = {"val/loss": "least_loss_epoch"}
        known = self.metric.startswith(("val/", "test/"))
        return results.get(names.get(self.metric, "best_epoch")) if known else None

    def best(self) -> tuple[float, list[str]] | None:
        """The best trial's metric and what train.py was told, if any came to its end."""
        if not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return None
        trial = self.study.best_trial
        assert trial.value is not None, "a trial that came to its end has a value"
        return trial.value, self.space.overrides(trial.params)
