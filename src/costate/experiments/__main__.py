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
from typing import Any

from costate.config import CONF
from costate.experiments import table
from costate.experiments.rows import Experiment, Result, Row, Run, known_seeds, line, read_all, settings
from costate.reports.sweep import read
from costate.runs import program
from costate.runs.program import speak

MNIST = "MNIST/raw/train-images-idx3-ubyte"
MARKER = ".fast"
"""Lies in a folder that --fast has made and may remove."""
SMALL = ("trainer.eval_batches=2", "trainer.progress=none", "log_every=5")
SIZES = {"train": 600, "batches": 20, "size": 20_000}
"""Of data with --fast, by the name that its size has."""
DIGITS, SEQUENCES = "data=digits", "data=adding"

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
    minutes = sum(run.row.minutes for run in due)
    about = f"{minutes} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"
    print(f"{len(due)} runs, about {about} on a quiet machine", flush=True)
    done = failed = 0
    # Times count where there are several processes, and where they are compared with those.
    crowd = [run for run in due if not (run.alone or run.row.experiment in table.PAIRS)]
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


def _results(rows: Sequence[Row], seeds: Sequence[int], folder: Path) -> Seeds:
    """Of the seeds that are asked for, and of all others that have been run."""
    results: Seeds = {}
    for row in rows:
        found = {seed: Run(row, seed, folder).result() for seed in sorted({*seeds, *known_seeds(row, folder)})}
        results[row] = {seed: result for seed, result in found.items() if seed in seeds or result.numbers}
    return results


def _perform(runs: Sequence[Run], workers: int) -> Iterator[tuple[Run, Result, str]]:
    def timed(run: Run) -> tuple[Run, Result, str]:
        since = time.monotonic()
        result = run.perform()
        return run, result, line(run, result, since)

    pool = ThreadPoolExecutor(workers)
    try:
        for done in as_completed([pool.submit(timed, run) for run in runs]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write(path: Path, experiments: Sequence[Experiment], seeds: Seeds) -> table.Results:
    """Both files; returns what stands in them."""
    results = {row: list(own.values()) for row, own in seeds.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table.page(experiments, results), encoding="utf-8")
    programs = [each for each in experiments if each.program is not None]
    table.update(path.with_name("docs") / "results.md", programs, results)
    return results


def short(chosen: Sequence[Experiment], folder: Path) -> int:
    """One epoch of each on few rows: does each of them still run?

    Raises:
        ValueError: where the runs would lie is something that --fast has not made.
    """
    place = folder.with_name(f"{folder.name}-fast")
    if place.exists() and not (place / MARKER).exists() and any(place.iterdir()):
        raise ValueError(f"{place} holds something that --fast has not made: remove it, or choose other --runs.")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / MARKER).touch()
    mnist = Path(os.environ.get("COSTATE_DATA", "data"), MNIST).exists()
    without = "" if mnist else ", data=digits for mnist"
    print(f"One epoch of {len(chosen)} experiments on 600 rows{without}", flush=True)
    lines, failed, start = [], 0, time.monotonic()
    for name, numbers in fast(chosen, place, mnist):
        error = numbers.get("error")
        failed += error is not None
        told = f"failed: {error}" if error else table.score([Result(numbers)])
        print(f"{name}: {told}", flush=True)
        lines.append([name, told, f"{numbers.get('fit_seconds', 0):.1f}"])
    text = table.markdown(("experiment", "after one epoch on few rows", " seconds"), lines)
    (place / "RESULTS.md").write_text(text + "\n", encoding="utf-8")
    print(f"{time.monotonic() - start:.0f} s. Written: {place / 'RESULTS.md'}")
    return int(failed > 0)


def fast(experiments: Sequence[Experiment], folder: Path, mnist: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each experiment, as it ends, with its numbers or its error; several in a process, in a new folder."""
    for i, (overrides, names) in enumerate(sweeps(experiments, mnist).items()):
        place = folder / str(i)
        place.mkdir(parents=True)
        words = ["-m", f"experiment={','.join(names)}", *overrides, f"hydra.sweep.dir='{place.absolute()}'"]
        process = program.start(words, place / "train.log")
        told, over = 0, False
        while not over:
            time.sleep(0.5)
            over = process.poll() is not None
            found = read(place)
            # The latest one may still be at work.
            for job in found[told : len(found) if over else -1]:
                yield job.settings["experiment"], job.results
                told += 1
        for name in names[told:]:
            yield name, {"error": f"it was not started: see {place / 'train.log'}"}


def sweeps(experiments: Sequence[Experiment], mnist: bool) -> dict[tuple[str, ...], list[str]]:
    """Overrides, and the experiments that they make short: those that need the same are one sweep of train.py.

    An experiment with levels has an epoch for each of them. Where MNIST is not there, other data take its place.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for experiment in experiments:
        cfg = settings(experiment.rows[0].overrides[0])
        own = [f"epochs={cfg['levels'].get('count', 1)}"]
        images = cfg["data"]["_target_"].rpartition(".")[2]
        if images in ("Mnist", "SequentialMnist") and not mnist:
            own.append(DIGITS if images == "Mnist" else SEQUENCES)
        own.append(next(f"data.{name}={size}" for name, size in SIZES.items() if name in cfg["data"]))
        found.setdefault((*own, *SMALL), []).append(experiment.name)
    return found


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
