"""Ends runs at random moments, resumes them, and compares each with the run that was left alone.

    python tests/kills.py [--moments 30] [--seed 0] [--folder FOLDER] [serial ddp pipeline asynchronous pvd levels]

At each moment one process of a run, or each of them, is sent SIGKILL, SIGTERM or SIGINT. A line tells what came of it;
the exit code is 1 if anything went wrong: a run that did not end, a process that stayed, an epoch that was lost, a
number that is another one.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]

from costate.runs import RunFolder  # noqa: E402
from running import ROOT, differences, last, ranks_of  # noqa: E402

RUN = (
    *("data=ellipse", "data.train=96", "data.validation=32", "data.test=32", "data.batch_size=16", "epochs=6"),
    *("arch.width=8", "arch.depth=4", "stages=2", "trainer.progress=lines", "log_every=2", "callbacks=none"),
)
MODES = {
    "serial": (),
    "ddp": ("trainer=ddp",),
    "pipeline": ("execution=pipeline",),
    "asynchronous": ("execution=asynchronous", "execution.max_staleness=0"),
    "pvd": ("method=pvd", "execution=parallel", "data.batch_size=96"),
    "levels": ("levels=double", "levels.count=2"),
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PATIENCE = 180
"""Seconds after which a run that was sent a signal hangs."""
TIMES = ("seconds", "per_second", "busy", "stall", "queue", "overrides", "updates")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", choices=[*MODES, []], default=[])
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as place:
        for mode in options.modes or MODES:
            for line, fault in kills(options.folder or Path(place), mode, options.moments, options.seed):
                print(line, flush=True)
                faults += bool(fault)
    return faults > 0


def kills(place: Path, mode: str, moments: int, seed: int) -> Iterator[tuple[str, str]]:
    """A line for each moment, and what went wrong at it, if anything did."""
    chance = random.Random(f"{mode} {seed}")
    whole = place / mode / "whole"
    begin = time.monotonic()
    with begun(whole, mode) as program:
        code = program.wait(10 * PATIENCE)
    seconds = time.monotonic() - begin
    assert code == 0, f"{mode} does not run: {(whole.parent / 'whole.log').read_text()}"
    for n in range(moments):
        moment, signum, many = chance.uniform(0.1, 1) * seconds, chance.choice(SIGNALS), chance.choice(["one", "all"])
        faults = ", ".join(kill(place / mode / str(n), mode, moment, signum, many, chance, RunFolder(whole)))
        yield f"{mode} {n}: {signum.name} to {many} after {moment:.1f} s: {faults or 'resumed, and the same'}", faults


@contextlib.contextmanager
def begun(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run in a session of its own; what it says goes into a file beside its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = words if words[0].startswith("resume=") else (*RUN, *MODES[words[0]], f"hydra.run.dir={folder}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with folder.with_suffix(".log").open("ab") as log:
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


def kill(
    folder: Path, mode: str, moment: float, signum: int, many: str, chance: random.Random, whole: RunFolder
) -> list[str]:
    """What goes wrong where a run is ended at a moment and taken up again."""
    run = RunFolder(folder)
    with begun(folder, mode) as program:
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(moment)
        targets = ranks_of(folder)
        for pid in targets if many == "all" or not targets else [chance.choice(targets)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        try:
            code = program.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return ["it hangs"]
        time.sleep(1)
        if left := ranks_of(folder):
            return [f"{len(left)} processes stay"]
    faults = []
    if (code == 0) != (run.results() != {}):
        faults.append(f"exit code {code}, results {run.results() != {}}")
    shown = folder.with_suffix(".log").read_text(errors="replace").count("\nepoch ")
    saved = (run.checkpoints / "last.ckpt").exists()
    # The line of an epoch comes before its checkpoint.
    kept = last(run)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] if saved else 0
    if kept < shown - 1:
        faults.append(f"{shown} epochs shown and {kept} kept")
    with begun(folder, f"resume={folder}" if saved else mode) as program:
        if code := program.wait(10 * PATIENCE):
            return [*faults, f"resuming ends with {code}"]
    return faults + compared(run, whole)


def compared(run: RunFolder, whole: RunFolder) -> list[str]:
    """Where the numbers of two runs are not the same, times aside."""
    ours, theirs = last(run), last(whole)
    faults = [key for name in ("state_dict", "optimizer_states") for key in differences(ours[name], theirs[name], name)]
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
