"""One table for a sweep: mean ± standard deviation over seeds, for each product of the other settings."""

import csv
import json
import sys
import traceback
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from costate.reports.numbers import plus_minus, statistics
from costate.runs import JOB, RunFolder
from costate.runs.writing import write as write_text

COSTS = ("best_epoch", "fit_seconds", "samples_per_second")
"""Behind the scores: the epoch that was tested, and what the training cost."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep, as its folder tells."""

    number: int
    settings: dict[str, str]
    results: dict[str, Any]


@dataclass(frozen=True)
class Group:
    """The jobs that differ in nothing but the seed."""

    settings: tuple[str, ...]
    jobs: list[Job]

    @property
    def done(self) -> list[Job]:
        return [job for job in self.jobs if "error" not in job.results]

    def statistics(self, metric: str) -> tuple[float | None, float | None]:
        """Mean and sample standard deviation over the jobs that have the number."""
        return statistics(job.results[metric] for job in self.done if metric in job.results)


class SweepTable(Callback):
    """Keeps summary.csv, summary.md and runs.csv in the sweep's folder up to date, and prints the table at the end."""

    sweep: str | None = None
    """What marks the jobs of this sweep: those of an earlier one may lie beside them."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.sweep = uuid.uuid4().hex

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            path = Path(config.hydra.runtime.output_dir) / JOB
            job = {"number": config.hydra.job.num, "overrides": OmegaConf.to_container(config.hydra.overrides.task)}
            if config.get("resume") is not None:
                job["run"] = str(Path(config.resume).absolute())
            known, taken = _job(path), (path.parent / "config.yaml").exists()
            # A run of another sweep, or somebody else's file, stays as it is.
            if not (path.exists() or taken) or (known and (known["overrides"] == job["overrides"] or not taken)):
                write_text(path, json.dumps(job | {"sweep": self.sweep}))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            write(Path(config.hydra.sweep.dir), self.sweep)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        # Jobs that ran side by side may each have missed the other's end.
        folder = Path(config.hydra.sweep.dir)
        try:
            write(folder, self.sweep)
            show(folder, self.sweep)
            codes = [job.results.get("exit_code", 1) for job in read(folder, self.sweep) if "error" in job.results]
        except Exception as error:
            # Hydra would make a warning of it, and end well.
            traceback.print_exception(error)
            codes = [1]
        if codes:
            # Jobs of other processes have no other way to tell.
            raise SystemExit(codes[0])


def read(folder: Path, sweep: str | None = None) -> list[Job]:
    """The jobs in a folder, or those of one sweep alone, in the order in which they ran; one without results has
    failed.
    """
    jobs = []
    for path in folder.rglob(JOB):
        job = _job(path)
        if job is None or (sweep is not None and job.get("sweep") != sweep):
            continue
        pairs = (override.lstrip("+~").partition("=") for override in job["overrides"])
        # A run that was gone on with has its results where it is; what is refused is said in the job's own folder.
        runs = (RunFolder(place) for place in (path.parent, job.get("run", path.parent)))
        results: dict[str, Any] = next((found for run in runs if (found := run.results())), {})
        jobs.append(Job(job["number"], {k: v for k, _, v in pairs}, results or {"error": "it did not come to its end"}))
    return sorted(jobs, key=lambda job: job.number)


def _job(path: Path) -> Any:
    """What a file says of a job; None if it is not there, or not one of ours."""
    try:
        job = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return job if isinstance(job, dict) and {"number", "overrides"} <= job.keys() else None


def varied(jobs: Sequence[Job]) -> list[str]:
    """The settings in which jobs differ."""
    keys = dict.fromkeys(key for job in jobs for key in job.settings)
    return [key for key in keys if len({job.settings.get(key) for job in jobs}) > 1]


def grouped(jobs: Sequence[Job]) -> tuple[list[str], list[Group]]:
    """The settings in which groups differ, and the groups."""
    keys = [key for key in varied(jobs) if key != "seed"]
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.settings.get(key, "") for key in keys), []).append(job)
    return keys, [Group(settings, members) for settings, members in groups.items()]


def metrics(jobs: Iterable[Job]) -> list[str]:
    """What the table shows: the scores of the test, its loss, of which epoch they are, and what the training cost."""
    names = dict.fromkeys(name for job in jobs for name in job.results)
    tested = sorted((name for name in names if name.startswith("test/")), key=lambda name: (name == "test/loss", name))
    return tested + [name for name in COSTS if name in names]


def write(folder: Path, sweep: str | None = None) -> None:
    """summary.csv: a row a group; summary.md: the same to read; runs.csv: a row a job, with all its numbers."""
    jobs = read(folder, sweep)
    keys, groups = grouped(jobs)
    names = metrics(jobs)
    header = [*keys, "n", "failed", *(column for name in names for column in (name, f"{name} std"))]
    rows = [
        [*g.settings, len(g.done), len(g.jobs) - len(g.done), *(x for name in names for x in g.statistics(name))]
        for g in groups
    ]
    _write_csv(folder / "summary.csv", header, rows)
    _write_csv(folder / "runs.csv", *_runs(jobs))
    (folder / "summary.md").write_text(_page(jobs), encoding="utf-8")


def _runs(jobs: Sequence[Job]) -> tuple[list[str], list[list[Any]]]:
    keys = varied(jobs)
    numbers = dict.fromkeys(k for job in jobs for k, v in job.results.items() if isinstance(v, int | float))
    names = [*(name for name in numbers if name not in keys), "error"]
    rows = [[job.number, *map(job.settings.get, keys), *map(job.results.get, names)] for job in jobs]
    return ["job", *keys, *names], rows


def _page(jobs: Sequence[Job]) -> str:
    keys, groups = grouped(jobs)
    names = metrics(jobs)
    lines = [_header(keys, names), ["---"] * (len(keys) + 1 + len(names)), *(_cells(g, names) for g in groups)]
    table = ["| " + " | ".join(line) + " |" for line in lines]
    failures = [f"- {line}" for line in _failures(jobs)]
    return "\n".join([*table, *(["", "Failed:", "", *failures] if failures else []), ""])


def show(folder: Path, sweep: str | None = None) -> None:
    """Prints the table, the jobs that failed, and where all this can be read."""
    jobs = read(folder, sweep)
    keys, groups = grouped(jobs)
    names = metrics(jobs)
    table = Table(title=f"{folder} (mean ± standard deviation over n seeds)", title_justify="left")
    for column in _header(keys, names):
        table.add_column(column, justify="left" if column in keys else "right")
    for group in groups:
        table.add_row(*_cells(group, names))
    # A file has no width to fit in.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(table)
    for line in _failures(jobs):
        console.print(f"failed: {line}", soft_wrap=True)


def _header(keys: Sequence[str], names: Sequence[str]) -> list[str]:
    return [*keys, "n", *names]


def _cells(group: Group, names: Sequence[str]) -> list[str]:
    failed = len(group.jobs) - len(group.done)
    count = f"{len(group.done)}" + (f" ({failed} failed)" if failed else "")
    return [*group.settings, count, *(plus_minus(*group.statistics(name)) for name in names)]


def _failures(jobs: Sequence[Job]) -> list[str]:
    keys = varied(jobs)
    names = {job.number: " ".join(f"{key}={job.settings.get(key, '')}" for key in keys) for job in jobs}
    return [f"{names[job.number]}: {job.results['error']}" for job in jobs if "error" in job.results]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
