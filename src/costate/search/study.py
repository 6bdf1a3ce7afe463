"""The search itself: Optuna's ask and tell, with trials kept in SQLite and in run folders.

Several processes may search in one folder at once. Each holds the lock of the trial that it runs, so a trial that is
running by the database and whose lock is free was left by a process that is gone, and is taken up again.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.trial import Trial, TrialState
from sqlalchemy import URL

from costate.config.words import override
from costate.reports import sweep
from costate.reports.groups import Run
from costate.runs import JOB, RunFolder
from costate.runs.files import write
from costate.runs.program import reason, start

Direction = Literal["minimize", "maximize"]
STARTUP = 5
"""Trials before anything is pruned."""
EVERY, GRACE = 0.5, 60
"""Seconds between two looks at metrics.csv; seconds that a run has to save itself when it is stopped."""


class Space:
    """What is searched, in Hydra's own words for sweeps, as train.py takes them, and the settings that stay.

        choice(a, b, c), a,b,c      one of them
        interval(a, b)              a number between
        range(a, b, step)           an integer from a to below b
        tag(log, ...)               of the last two: the same, evenly in its logarithm

    Raises:
        ValueError: a word is no override, a sweep is of a kind that cannot be searched, or nothing is searched.
    """

    def __init__(self, words: Sequence[str]):
        try:
            overrides = OverridesParser.create().parse_overrides(list(words))
        except HydraException as error:
            raise ValueError(str(error).splitlines()[0]) from error
        self.fixed = [o.input_line or "" for o in overrides if not o.is_sweep_override()]
        self.searched = {o.get_key_element(): distribution(o) for o in overrides if o.is_sweep_override()}
        if not self.searched:
            raise ValueError(
                "There is nothing to search: give a setting as optimizer.lr=interval(0.001,0.01) or a,b,c."
            )

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """What train.py is told for one trial."""
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]


def distribution(override: Override) -> BaseDistribution:
    """What Optuna draws a setting from."""
    sweep, key = override.value(), override.get_key_element()
    tags = set(getattr(sweep, "tags", ()))
    if tags - {"log"}:
        raise ValueError(f"{key}: tag {', '.join(sorted(tags - {'log'}))} is not known; there is log.")
    log = "log" in tags
    try:
        if isinstance(sweep, ChoiceSweep):
            return CategoricalDistribution([str(choice) for choice in override.sweep_string_iterator()])
        if isinstance(sweep, IntervalSweep):
            return FloatDistribution(float(sweep.start or 0), float(sweep.end or 0), log=log)
        if isinstance(sweep, RangeSweep):
            start, stop, step = _integers(sweep)
            last = start + (stop - 1 - start) // step * step
            return IntDistribution(start, last, log=log, step=1 if log else step)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    raise ValueError(f"{key}: {override.input_line} cannot be searched; there are choice, interval and range.")


def _integers(sweep: RangeSweep) -> tuple[int, int, int]:
    start, stop, step = (number or 0 for number in (sweep.start, sweep.stop, sweep.step))
    if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int) and step > 0:
        return start, stop, step
    raise ValueError(
        f"range({start}, {stop}, {step}) has to go up in integers: give interval(a,b), or numbers as a,b,c."
    )


class TrialError(Exception):
    """A run that did not come to its end, with the last words that it said."""


class TrialRun:
    """One trial: a run of train.py in its own folder, its metric watched epoch by epoch, stopped and taken up again."""

    def __init__(self, folder: Path, number: int, overrides: Sequence[str], metric: str):
        self.folder, self.number, self.overrides, self.metric = folder, number, list(overrides), metric
        self.log = folder / "train.log"

    def run(self, prune: Callable[[int, float], bool]) -> float | None:
        """The metric of the finished run's results, or None if `prune`, told of each epoch, saw it to be worth no more.

        Raises:
            TrialError: the run did not come to its end.
            ValueError: it did, and has no such metric.
        """
        if (result := self._result()) is not None:
            return result
        process = start(self._words(), self.log)
        told, over = 0, False
        try:
            while not over:
                over = process.poll() is not None
                for epoch, value in list(self.epochs())[told:]:
                    told = epoch
                    if prune(epoch, value):
                        self._end(process)
                        error = "pruned: others were better at this epoch"
                        write(self.folder / "summary.json", json.dumps({"error": error}))
                        return None
                time.sleep(0 if over else EVERY)
        except KeyboardInterrupt:
            # A terminal has told the run as well, `kill` has not: it saves a checkpoint and leaves.
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE / 4)
            self._end(process)
            raise
        if process.returncode or (result := self._result()) is None:
            raise TrialError(reason(process.returncode, self.log))
        return result

    def epochs(self) -> Iterator[tuple[int, float]]:
        """The metric by epochs, from 1, as far as metrics.csv has been written."""
        column = Run(self.folder, {}, {}).columns.get(self.metric)
        return enumerate(column.values if column else (), start=1)

    def _words(self) -> list[str]:
        if (self.folder / "checkpoints" / "last.ckpt").exists():
            return [override("resume", self.folder), "trainer.progress=none"]
        self.folder.mkdir(parents=True, exist_ok=True)
        write(self.folder / JOB, json.dumps({"number": self.number, "overrides": self.overrides}))
        # What was begun and has no checkpoint begins again.
        for name in ("config.yaml", "metrics.csv"):
            (self.folder / name).unlink(missing_ok=True)
        return [*self.overrides, override("hydra.run.dir", self.folder), "trainer.progress=none"]

    def _result(self) -> float | None:
        results = RunFolder(self.folder).results()
        if results and "error" not in results and self.metric not in results:
            known = ", ".join(sorted(name for name in results if name.startswith(("val/", "test/"))))
            there = f"{self.folder}/summary.json has no {self.metric}; there are {known}"
            raise ValueError(f"{there}: search in another --folder for one of these, by --minimize or --maximize.")
        return results.get(self.metric)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Search:
    """A study in a folder: study.db, a run folder for each trial, and the tables of a sweep.

    Args:
        folder: of the study; one that is there is gone on with.
        words: what is searched and what stays; none for a study that is there.
        metric: number of a run's results that counts, logged once an epoch.
        direction: whether a good one is low or high.
        prune: whether trials whose metric is worse than the median of the others at the same epoch are stopped (True).
        seed: of what is proposed (0).
        trials: in all, those that are there already included (20). None, of these three: as the study has it.

    Raises:
        ValueError: the study is there and searches something else, or is not there and has nothing to search.
    """

    def __init__(
        self,
        folder: Path,
        words: list[str],
        *,
        metric: str,
        direction: Direction,
        prune: bool | None = None,
        seed: int | None = None,
        trials: int | None = None,
    ):
        self.folder = folder.absolute()
        if words:
            Space(words)  # no study is begun of what cannot be searched
        elif not (self.folder / "study.db").exists():
            raise ValueError(f"{folder} holds no study: say what to search.")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.study = optuna.create_study(
            # Written out here, a name with ? or % in it would be that of another file.
            storage=URL.create("sqlite", database=str(self.folder / "study.db")).render_as_string(),
            study_name="costate",
            load_if_exists=True,
            direction=direction,
        )
        wanted: dict[str, Any] = {"words": words, "metric": metric, "direction": direction}
        kept: dict[str, Any] = self.study.user_attrs or wanted
        for name, value in wanted.items():
            if words and kept.get(name) != value:
                raise ValueError(f"{folder} holds a study of {kept.get(name)}: choose another folder for {value}.")
            self.study.set_user_attr(name, kept[name])
        self.space, self.metric = Space(kept["words"]), kept["metric"]
        pruner = MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=1)
        self.study.pruner = pruner if self._option("prune", prune, default=True) else NopPruner()
        self.study.sampler = TPESampler(seed=self._option("seed", seed, default=0), constant_liar=True)
        self.trials: int = self._option("trials", trials, default=20)

    def _option(self, name: str, told: Any, default: Any) -> Any:
        """What may be told anew when a search goes on, and else is as it was told before."""
        if told is not None:
            self.study.set_user_attr(name, told)
        return self.study.user_attrs.get(name, default)

    def run(self, trials: int | None = None) -> None:
        """Takes up what was left, and goes on to so many trials in all, those of other processes included."""
        while True:
            with self._next(self.trials if trials is None else trials) as trial:
                if trial is None:
                    return
                self._try(trial)
            sweep.write(self.folder)

    @contextmanager
    def _next(self, trials: int) -> Iterator[Trial | None]:
        """A trial that nobody else runs, under its lock."""
        # Under a lock of the study: between a new trial and its lock nobody may take it for one that was left.
        with ExitStack() as held:
            with FileLock(self.folder / "study.lock"):
                trial = self._left(held)
                if trial is None and len(self.study.get_trials(deepcopy=False)) < trials:
                    trial = self.study.ask(self.space.searched)
                    held.enter_context(self._lock(trial))
            yield trial

    def _left(self, held: ExitStack) -> Trial | None:
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial = Trial(self.study, frozen._trial_id)
            with suppress(Timeout):
                held.enter_context(self._lock(trial).acquire(timeout=0))
                return trial
        return None

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
        if not self.metric.startswith(("val/", "test/")):
            return None
        results = RunFolder(self.folder / str(self.study.best_trial.number)).results()
        return results.get("least_loss_epoch" if self.metric == "val/loss" else "best_epoch")

    def best(self) -> tuple[float, list[str]] | None:
        """The best trial's metric and what train.py was told, if any came to its end."""
        if not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return None
        trial = self.study.best_trial
        assert trial.value is not None, "a trial that came to its end has a value"
        return trial.value, self.space.overrides(trial.params)
