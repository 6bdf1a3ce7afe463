"""One table for a sweep: mean ± standard deviation over seeds, for each product of the other settings."""

import json
import sys
import traceback
import uuid
from collections.abc import Sequence
from itertools import accumulate, chain, starmap
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from costate.reports.groups import statistics
from costate.reports.table import comma_separated, markdown, plus_minus
from costate.runs import JOB, RunFolder
from costate.runs.files import write as write_text

COSTS = ("best_epoch", "fit_seconds", "samples_per_second")
"""Behind the scores: the epoch that was tested, and what the training cost."""
Row = tuple[tuple[str, ...], int, int, list[tuple[float | None, float | None]]]
"""Of a group: its settings, how many of its jobs have ended and failed, mean and deviation of each number."""


class Job(NamedTuple):
    """One job of a sweep, as its folder tells."""

    number: int
    settings: dict[str, str]
    results: dict[str, Any]


class SweepTable(Callback):
    """Keeps summary.csv, summary.md and runs.csv in the sweep's folder up to date, and prints the table at the end."""

    sweep: str | None = None
    """What marks the jobs of this sweep: those of an earlier one may lie beside them."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.sweep = uuid.uuid4().hex

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            path = Path(config.hydra.runtime.output_dir) / JOB
            known, taken = _job(path), (path.parent / "config.yaml").exists()
            # A run of another sweep, or somebody else's file, stays as it is.
            if not (path.exists() or taken) or (known and (known["overrides"] == _overrides(config) or not taken)):
                self._mark(path, config)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            path = Path(config.hydra.runtime.output_dir) / JOB
            # A job that has not been refused is the run that is there, whatever words it was first asked for with.
            if job_return.status == JobStatus.COMPLETED and (_job(path) or not path.exists()):
                self._mark(path, config)
            write(Path(config.hydra.sweep.dir), self.sweep)

    def _mark(self, path: Path, config: DictConfig) -> None:
        job = {"number": config.hydra.job.num, "overrides": _overrides(config), "sweep": self.sweep}
        if config.get("resume") is not None:
            job["run"] = str(Path(config.resume).absolute())
        write_text(path, json.dumps(job))

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


def _overrides(config: DictConfig) -> Any:
    return OmegaConf.to_container(config.hydra.overrides.task)


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


def summary(jobs: Sequence[Job]) -> tuple[list[str], list[str], list[Row]]:
    """The settings in which groups differ; the names of what is shown of them, the scores of the test, its loss, of
    which epoch they are and what the training cost; and a row for the jobs that differ in nothing but the seed.
    """
    keys = [key for key in varied(jobs) if key != "seed"]
    known = dict.fromkeys(name for job in jobs for name in job.results)
    tested = sorted((name for name in known if name.startswith("test/")), key=lambda name: (name == "test/loss", name))
    names = tested + [name for name in COSTS if name in known]
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.settings.get(key, "") for key in keys), []).append(job)
    rows: list[Row] = []
    for settings, own in groups.items():
        done = [job.results for job in own if "error" not in job.results]
        numbers = [statistics(results[name] for results in done if name in results) for name in names]
        rows.append((settings, len(done), len(own) - len(done), numbers))
    return keys, names, rows


def cells(jobs: Sequence[Job]) -> list[list[str]]:
    """The table to read, its header first."""
    keys, names, rows = summary(jobs)
    lines = [[*keys, "n", *names]]
    for settings, done, failed, numbers in rows:
        lines.append([*settings, f"{done} ({failed} failed)" if failed else f"{done}", *starmap(plus_minus, numbers)])
    return lines


def failures(jobs: Sequence[Job]) -> list[str]:
    """A line for each job that has failed: what it was, and why."""
    keys = varied(jobs)
    failed = [job for job in jobs if "error" in job.results]
    names = [" ".join(f"{key}={job.settings.get(key, '')}" for key in keys) for job in failed]
    return [": ".join(filter(None, (name, job.results["error"]))) for name, job in zip(names, failed, strict=True)]


def write(folder: Path, sweep: str | None = None) -> None:
    """summary.csv: a row a group; summary.md: the same to read; runs.csv: a row a job, with all its numbers. Nothing,
    where there are no jobs.
    """
    jobs = read(folder, sweep)
    if not jobs:
        # Tables of an earlier sweep are worth more than empty ones.
        return
    keys, names, rows = summary(jobs)
    header = [*keys, "n", "failed", *(column for name in names for column in (name, f"{name} std"))]
    lines = [[*settings, done, failed, *chain(*numbers)] for settings, done, failed, numbers in rows]
    (folder / "summary.csv").write_text(comma_separated(header, lines), encoding="utf-8")
    keys = varied(jobs)
    numbers = dict.fromkeys(k for job in jobs for k, v in job.results.items() if isinstance(v, int | float))
    names = [*(name for name in numbers if name not in keys), "error"]
    lines = [[job.number, *map(job.settings.get, keys), *map(job.results.get, names)] for job in jobs]
    (folder / "runs.csv").write_text(comma_separated(["job", *keys, *names], lines), encoding="utf-8")
    failed = [f"- {line}\n" for line in failures(jobs)]
    told = "".join(["\nFailed:\n\n", *failed]) if failed else ""
    (folder / "summary.md").write_text(markdown(cells(jobs)) + told, encoding="utf-8")


def show(folder: Path, sweep: str | None = None) -> None:
    """Prints the table, as many of its columns as have room, and the jobs that failed."""
    jobs = read(folder, sweep)
    rows = cells(jobs)
    settings = rows[0].index("n")
    # A file has no width to fit in.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    heads = [name.replace("_", "\n", 1) if i > settings else name for i, name in enumerate(rows[0])]
    columns = zip(heads, *rows[1:], strict=True)
    ends = accumulate(3 + max(len(line) for cell in column for line in cell.split("\n")) for column in columns)
    shown = max(settings + 2, sum(1 + end <= console.width for end in ends))
    table = Table()
    for i, column in enumerate(heads[:shown]):
        table.add_column(column, justify="left" if i < settings else "right", overflow="fold", no_wrap=i >= settings)
    for row in rows[1:]:
        table.add_row(*row[:shown])
    console.print(f"{folder} (mean ± standard deviation over n seeds)", soft_wrap=True)
    console.print(table)
    if shown < len(heads):
        console.print(f"No room here for {', '.join(rows[0][shown:])}: they are in summary.md there.")
    for line in failures(jobs):
        console.print(f"failed: {line}", soft_wrap=True)
