"""Ends runs at random moments, resumes them, and compares each with the run that was left alone.

    python tests/kills.py [--moments 30] [--seed 0] [--folder FOLDER] [serial ddp pipeline asynchronous pvd levels]

At each moment one process of a run, or each of them, is sent SIGKILL, SIGTERM or SIGINT, each of the six equally often.
The run is resumed and ended again, a few times over, and then left to its end. A line tells what came of each moment,
a table what came of each mode; the exit code is 1 if anything went wrong.
"""

import argparse
import contextlib
import csv
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]

from costate.runs import RunFolder  # noqa: E402
from running import ROOT, last, ranks_of, unlike  # noqa: E402

RUN = (
    *("data=ellipse", "data.train=96", "data.validation=32", "data.test=32", "data.batch_size=16", "epochs=12"),
    *("arch.width=8", "arch.depth=4", "stages=2", "trainer.progress=lines", "log_every=2", "callbacks=none"),
)
MODES = {
    "serial": (),
    "ddp": ("trainer=ddp",),
    "pipeline": ("execution=pipeline",),
    "asynchronous": ("execution=asynchronous", "execution.max_staleness=0"),
    "pvd": ("method=pvd", "execution=parallel", "data.batch_size=96"),
    "levels": ("levels=double", "levels.depths=[2,4]"),
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CHAIN = 5
"""How often one run is ended, at most."""
PATIENCE = 180
"""Seconds after which a run that was sent a signal hangs."""
FAULTS = ("hangs", "orphans", "lost epochs", "wrong exit codes", "different")
TIMES = ("seconds", "per_second", "busy", "stall", "queue", "overrides", "updates", "staleness", "messages")
"""Of names of what the clock decides, or a process counts since it began."""


class Moment(NamedTuple):
    """So many seconds behind so many epochs' ends, counted from where a run is begun or resumed."""

    epochs: int
    seconds: float
    signum: signal.Signals
    target: str

    def __str__(self) -> str:
        behind = f" behind {self.epochs} epochs" if self.epochs else ""
        return f"{self.signum.name} to {self.target} after {self.seconds:.2f} s{behind}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", choices=[*MODES, []], default=[])
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    # A shell has what it runs in the background ignore SIGINT, and runs would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    table = []
    with tempfile.TemporaryDirectory() as place:
        for mode in options.modes or MODES:
            found: Counter[str] = Counter()
            for line, faults in kills(options.folder or Path(place), mode, options.moments, options.seed):
                print(line, flush=True)
                found.update(faults)
            table.append((mode, options.moments, *(found[fault] for fault in FAULTS)))
    for row in [("mode", "moments", *FAULTS), *table]:
        print("".join(f"{cell:>18}" for cell in row))
    return any(any(row[2:]) for row in table)


def moments(count: int, start: float, chance: random.Random) -> Iterator[Moment]:
    """A third of them while a run begins, which takes `start` seconds, the others while it trains."""
    kinds = list(itertools.islice(itertools.cycle(itertools.product(SIGNALS, ("one", "all"))), count))
    chance.shuffle(kinds)
    for signum, target in kinds:
        epochs = chance.choice([0, 1, 2])
        yield Moment(epochs, chance.uniform(0, 0.5 if epochs else start), signum, target)


def kills(place: Path, mode: str, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """A line for each moment and for each end, and the kinds of what went wrong."""
    chance = random.Random(f"{mode} {seed}")
    whole = RunFolder(place / mode / "whole")
    begin = time.monotonic()
    with begun(whole.path, mode) as program:
        await_moment(program, whole.path, 1, 0)
        start, code = time.monotonic() - begin, program.wait(10 * PATIENCE)
    assert code == 0, f"{mode} does not run: {logged(whole.path).read_text()}"
    left = list(moments(count, start, chance))
    for n in itertools.count():
        if not left:
            return
        run = RunFolder(place / mode / str(n))
        for _ in range(min(CHAIN, len(left))):
            moment = left.pop()
            told, faults = kill(run, mode, moment, chance)
            yield f"{mode} {n}: {moment}: {told}", faults
            if faults or run.results():
                break
        differing = ended(run, mode, whole)
        yield f"{mode} {n}: at its end {differing or 'the same'}", ["different"] if differing else []


@contextlib.contextmanager
def begun(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run in a session of its own; what it says goes into a file beside its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = words if words[0].startswith("resume=") else (*RUN, *MODES[words[0]], f"hydra.run.dir={folder}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with logged(folder).open("ab") as log:
        program = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "train.py"), *words],
            **{"cwd": folder.parent, "env": environment, "stdout": log, "stderr": log, "start_new_session": True},
        )
        try:
            yield program
        finally:
            for pid in ranks_of(folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            program.wait()


def logged(folder: Path) -> Path:
    return folder.with_suffix(".log")


def epochs(folder: Path) -> list[int]:
    """Those whose lines have been shown."""
    text = logged(folder).read_text(errors="replace")
    return [int(number) for number in re.findall(r"^epoch +(\d+)/", text, re.MULTILINE)]


def await_moment(program: subprocess.Popen[bytes], folder: Path, behind: int, seconds: float) -> None:
    """Returns so many seconds behind so many more epochs, or when the program ends."""
    before = len(epochs(folder))
    while len(epochs(folder)) < before + behind and program.poll() is None:
        time.sleep(0.01)
    with contextlib.suppress(subprocess.TimeoutExpired):
        program.wait(seconds)


def kill(run: RunFolder, mode: str, moment: Moment, chance: random.Random) -> tuple[str, list[str]]:
    """Begins a run, or goes on with it, and ends it at a moment: a word about it, and the kinds of what went wrong."""
    with resumed(run, mode) as program:
        await_moment(program, run.path, moment.epochs, moment.seconds)
        targets = ranks_of(run.path)
        for pid in targets if moment.target == "all" or not targets else [chance.choice(targets)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, moment.signum)
        try:
            code = program.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return "it hangs", ["hangs"]
        time.sleep(1)
        if left := ranks_of(run.path):
            return f"{len(left)} processes stay", ["orphans"]
    shown, kept, done = max(epochs(run.path), default=0), saved(run), run.results() != {}
    # A signal that finds a run at its very end, with all that it had to do done, has the exit code as everywhere.
    right = (code == 0) == done or (done and code in (-moment.signum, 128 + moment.signum))
    faults = [] if right else ["wrong exit codes"]
    # The line of an epoch comes before its checkpoint.
    faults += ["lost epochs"] if kept < shown - 1 else []
    return f"exit code {code}, {shown} epochs shown, {kept} kept{', done' if done else ''}", faults


def resumed(run: RunFolder, mode: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    checkpoint = (run.checkpoints / "last.ckpt").exists()
    return begun(run.path, f"resume={run.path}" if checkpoint else mode)


def saved(run: RunFolder) -> int:
    """Epochs behind the last checkpoint."""
    if not (run.checkpoints / "last.ckpt").exists():
        return 0
    return last(run)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]


def ended(run: RunFolder, mode: str, whole: RunFolder) -> list[str]:
    """Where a run that goes on to its end differs from the one that was left alone, times aside."""
    with resumed(run, mode) as program:
        if code := program.wait(10 * PATIENCE):
            return [f"exit code {code}"]
    faults = unlike(run, whole)
    if rows(run.metrics) != rows(whole.metrics):
        faults.append("metrics.csv")
    results = [{k: v for k, v in folder.results().items() if not timed(k)} for folder in (run, whole)]
    return faults + ([] if json.dumps(results[0]) == json.dumps(results[1]) else ["summary.json"])


def rows(path: Path) -> Sequence[dict[str, str]]:
    with path.open(newline="") as file:
        found = [{k: v for k, v in row.items() if v and not timed(k)} for row in csv.DictReader(file)]
    # A row that has nothing but times: how often those are logged is the clock's affair.
    return [row for row in found if row.keys() - {"step", "epoch"}]


def timed(name: str) -> bool:
    return any(word in name for word in TIMES)


if __name__ == "__main__":
    sys.exit(main())
