"""One epoch of every experiment on few rows, several in a process: does each of them still run?

Experiments that need the same settings for that are one sweep of train.py. An experiment with levels has an epoch for
each of them.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from costate.experiments.headers import Experiment
from costate.experiments.running import settings
from costate.reports.sweep import Job, read
from costate.runs import program

SMALL = ("trainer.eval_batches=2", "trainer.progress=none", "log_every=5")
SIZES = {"train": 600, "batches": 20, "size": 20_000}
"""Of data, by the name that its size has."""
DIGITS, SEQUENCES = "data=digits", "data=adding"


def sweeps(experiments: Sequence[Experiment], mnist: bool) -> dict[tuple[str, ...], list[str]]:
    """Overrides, and the experiments that they make short.

    Args:
        mnist: whether its files are there; else data=digits takes its place.
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


def run(experiments: Sequence[Experiment], folder: Path, mnist: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each experiment, as it ends, with its numbers or its error.

    Args:
        folder: of the sweeps; it holds nothing yet.
    """
    for i, (overrides, names) in enumerate(sweeps(experiments, mnist).items()):
        place = folder / str(i)
        place.mkdir(parents=True)
        words = ["-m", f"experiment={','.join(names)}", *overrides, f"hydra.sweep.dir='{place.absolute()}'"]
        process = program.start(words, place / "train.log")
        told: set[int] = set()
        while process.poll() is None:
            time.sleep(0.5)
            # The latest one may still be at work.
            for job in _new(place, told)[:-1]:
                yield job.settings["experiment"], job.results
                told.add(job.number)
        for job in _new(place, told):
            yield job.settings["experiment"], job.results
        for name in names[len(read(place)) :]:
            yield name, {"error": f"it was not started: see {place / 'train.log'}"}


def _new(place: Path, told: set[int]) -> list[Job]:
    return [job for job in read(place) if job.number not in told]
