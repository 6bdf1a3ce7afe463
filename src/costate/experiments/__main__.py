"""python -m costate.experiments [NAME ...]: runs the programs of three earlier projects and writes RESULTS.md.

A run that has ended with these settings and this version of Costate is not repeated; one that was stopped is. Results
show every seed that has been run.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from costate.config import CONF
from costate.experiments import claims, digest, fast, running, table
from costate.experiments.headers import Experiment, Row, read_all
from costate.experiments.running import Result, Run, line
from costate.runs.program import speak

MNIST = "MNIST/raw/train-images-idx3-ubyte"
MARKER = ".fast"
"""Lies in a folder that --fast has made and may remove."""

Seeds = dict[Row, dict[int, Result]]
"""Of each row, the result of each seed."""


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 where a run has failed, 2 where the question was wrong."""
    options = _arguments(words)
    # A rank of a pipeline has one thread: what it is compared with has one, too.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        experiments = read_all(CONF / "experiment")
        chosen = _chosen(experiments, options.names)
        return short(chosen, options.runs) if options.fast else long(experiments, chosen, options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = "begins again" if options.fast else "begins the runs again that were stopped, and keeps the others"
        print(f"\nInterrupted: the same command {again}.", file=sys.stderr)
        return 130


def long(experiments: Sequence[Experiment], chosen: Sequence[Experiment], options: argparse.Namespace) -> int:
    """Runs what has not been run; RESULTS.md has all experiments, and is written anew after each run."""
    shown = [each for each in experiments if each.program is not None or each in chosen]
    results = _results([row for each in shown for row in each.rows], options.seeds, options.runs)
    rows = [row for each in shown if each in chosen for row in each.rows]
    due = [Run(row, seed, options.runs) for row in rows for seed in options.seeds if not results[row][seed].numbers]
    print(f"{len(due)} runs, about {_hours(due)} on a quiet machine", flush=True)
    done = failed = 0
    # Times count where there are several processes, and where they are compared with those.
    crowd = [run for run in due if not (run.alone or run.row.experiment in claims.PAIRS)]
    for some, workers in ((crowd, options.jobs), ([run for run in due if run not in crowd], 1)):
        for run, result, told in _perform(some, workers):
            results[run.row][run.seed] = result
            failed += result.numbers is None
            done += 1
            print(f"[{done}/{len(due)}] {told}", flush=True)
            _write(options.out, shown, results)
    listed = _write(options.out, shown, results)
    for row in listed:
        if table.missed(row, listed):
            print(f"miss: {row.command}: {table.score(listed[row])}, expected {table.expected(row.mark)}")
    print(f"Written: {options.out}" + (f"; {failed} runs failed" if failed else ""))
    return int(failed > 0)


def short(chosen: Sequence[Experiment], folder: Path) -> int:
    """One epoch of each on few rows.

    Raises:
        ValueError: where the runs would lie is something else.
    """
    place = _emptied(folder.with_name(f"{folder.name}-fast"))
    mnist = Path(os.environ.get("COSTATE_DATA", "data"), MNIST).exists()
    print(
        f"One epoch of {len(chosen)} experiments on 600 rows" + ("" if mnist else ", data=digits for mnist"), flush=True
    )
    lines, failed, start = [], 0, time.monotonic()
    for name, numbers in fast.run(chosen, place, mnist):
        error = numbers.get("error")
        failed += error is not None
        told = f"failed: {error}" if error else table.score([Result(numbers)])
        print(f"{name}: {told}", flush=True)
        lines.append([name, told, f"{numbers.get('fit_seconds', 0):.1f}"])
    text = table.markdown(("experiment", "after one epoch on few rows", " seconds"), lines)
    (place / "RESULTS.md").write_text(text + "\n", encoding="utf-8")
    print(f"{time.monotonic() - start:.0f} s. Written: {place / 'RESULTS.md'}")
    return int(failed > 0)


def _perform(runs: Sequence[Run], workers: int) -> Iterator[tuple[Run, Result, str]]:
    def timed(run: Run) -> tuple[Run, Result, str]:
        since = time.monotonic()
        result = run.perform()
        return run, result, line(run, result, since)

    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(timed, run) for run in runs]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            for one in waiting:
                one.cancel()


def _results(rows: Sequence[Row], seeds: Sequence[int], folder: Path) -> Seeds:
    """Of the seeds that are asked for, and of all others that have been run."""
    results: Seeds = {}
    for row in rows:
        known = sorted({*seeds, *running.seeds(row, folder)})
        found = {seed: Run(row, seed, folder).result() for seed in known}
        results[row] = {seed: result for seed, result in found.items() if seed in seeds or result.numbers}
    return results


def _emptied(place: Path) -> Path:
    """A folder with nothing in it but the marker."""
    if place.exists() and not (place / MARKER).exists() and any(place.iterdir()):
        raise ValueError(f"{place} holds something that --fast has not made: remove it, or choose other --runs.")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / MARKER).touch()
    return place


def _write(path: Path, experiments: Sequence[Experiment], seeds: Seeds) -> table.Results:
    """Both files; returns what stands in them."""
    results = {row: list(own.values()) for row, own in seeds.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table.page(experiments, results, [claims.speed, claims.dni_table]), encoding="utf-8")
    programs = [each for each in experiments if each.program is not None]
    digest.update(path.with_name("docs") / "results.md", programs, results)
    return results


def _hours(runs: Sequence[Run]) -> str:
    minutes = sum(run.row.minutes for run in runs)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"


def _chosen(experiments: Sequence[Experiment], names: Sequence[str]) -> list[Experiment]:
    """Those of these names, or all that answer to a program."""
    known = {each.name: each for each in experiments}
    for name in names:
        if name not in known:
            raise ValueError(f"{name}: no such experiment; there are {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)] or [each for each in experiments if each.program is not None]


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m costate.experiments", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="files of conf/experiment (default: all programs)")
    parser.add_argument("--seeds", type=_seeds, help="to run, default 0,1,2")
    parser.add_argument("--jobs", type=_jobs, help="runs of one process side by side (default 1)")
    parser.add_argument("--fast", action="store_true", help="one epoch of each on few rows, no RESULTS.md")
    parser.add_argument("--out", type=Path, help="default RESULTS.md")
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"), help="default runs/experiments")
    options = parser.parse_args(words)
    for name, default in {"seeds": [0, 1, 2], "jobs": 1, "out": Path("RESULTS.md")}.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
        elif options.fast:
            parser.error(f"--{name} does not go with --fast, which has one seed and writes into its own folder.")
    return options


def _seeds(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"{text} is not a list of whole numbers from 0 on, such as 0,1,2.")
    return list(dict.fromkeys(map(int, words)))


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on.")
    return int(text)


if __name__ == "__main__":
    speak()
    sys.exit(main())
