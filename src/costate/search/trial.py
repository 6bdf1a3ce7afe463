"""One trial: a run of train.py in a folder of its own, watched epoch by epoch."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from costate.config.words import override
from costate.reports.reading import rows
from costate.runs import JOB, RunFolder
from costate.runs.program import reason, start
from costate.runs.writing import write

EVERY = 0.5
"""Seconds between two looks at metrics.csv."""
GRACE = 60
"""Seconds that a run has to save itself when its trial is pruned."""


class TrialError(Exception):
    """A run that did not come to its end, with the last words that it said."""


class TrialRun:
    """A run that can be watched, stopped and taken up again.

    Args:
        folder: of the run.
        number: of the trial.
        overrides: for train.py.
        metric: that is watched, a number of each epoch.
    """

    def __init__(self, folder: Path, number: int, overrides: Sequence[str], metric: str):
        self.folder, self.number, self.overrides, self.metric = folder, number, list(overrides), metric
        self.log = folder / "train.log"

    def run(self, prune: Callable[[int, float], bool]) -> float | None:
        """The metric of the finished run's results, or None if it was pruned.

        Args:
            prune: told the number of each epoch and its metric; whether the trial is not worth more.

        Raises:
            TrialError: the run did not come to its end.
        """
        if (result := self._result()) is not None:
            return result
        process = start(self._words(), self.log)
        told = 0
        try:
            while True:
                over = process.poll() is not None
                for epoch, value in list(self.epochs())[told:]:
                    told = epoch
                    if prune(epoch, value):
                        self._stop(process)
                        return None
                if over:
                    break
                time.sleep(EVERY)
        except KeyboardInterrupt:
            # The terminal has told the run as well: it saves a checkpoint and leaves.
            process.wait()
            raise
        if process.returncode or (result := self._result()) is None:
            raise TrialError(reason(process.returncode, self.log))
        return result

    def epochs(self) -> Iterator[tuple[int, float]]:
        """The metric by epochs, from 1, as far as metrics.csv has been written."""
        path = self.folder / "metrics.csv"
        if not path.exists():
            return
        with path.open(newline="", encoding="utf-8") as file:
            values = (value for _, numbers in rows(file) for name, value in numbers if name == self.metric)
            yield from enumerate(values, start=1)

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
        return RunFolder(self.folder).results().get(self.metric)

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        write(self.folder / "summary.json", json.dumps({"error": "pruned: others were better at this epoch"}))
