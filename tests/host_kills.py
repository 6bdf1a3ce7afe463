"""Takes a host away at random moments, starts the run again, and compares it with the run that was left alone.

    python tests/host_kills.py [--moments 20] [--seed 0] [--batches 600]      root on Linux

Two hosts of this machine train a pipeline. At each moment, from when both have their ranks, one of them loses its link,
is switched off, or has its ranks or its torchrun killed. A line tells what came of it; the exit code is 1 if the other
host went on for more than a minute, if a process stayed, or if the second start ended with other numbers.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]

from costate.benchmarks.hosts import Hosts, lacking  # noqa: E402
from costate.runs import RunFolder  # noqa: E402
from hosted import FAULTS, Started, processes, take_away, torchrun  # noqa: E402
from running import unlike  # noqa: E402

MINUTE = 60.0
EPOCH = 6
"""Batches, of a tenth of a second each."""


def words(folder: Path, batches: int) -> list[str]:
    small = ("data=ellipse", "data.train=96", "data.validation=32", "data.test=32", "data.batch_size=16")
    network = ("arch.width=8", "arch.depth=4", "stages=2", "execution=pipeline", "callbacks=none", "log_every=6")
    pause = ("+callbacks.pause._target_=alarm.Pause", "trainer.progress=none")
    return [*small, *network, *pause, f"epochs={batches // EPOCH}", f"hydra.run.dir={folder}"]


def begun(hosts: Hosts, logs: Path, folder: Path, batches: int) -> Started:
    """With a rank on each host."""
    started = torchrun(hosts, logs, 1, *words(folder, batches))
    started.wait(lambda: all(processes(hosts, name, "-u") for name in hosts.names))
    return started


def once(place: Path, batches: int, moment: float, victim: str, fault: str, whole: RunFolder) -> list[str]:
    """What goes wrong where a host is taken away at a moment."""
    run, faults = RunFolder(place / "run"), []
    with Hosts(2) as hosts:
        started = begun(hosts, place / "first", run.path, batches)
        time.sleep(moment)
        # Before they have met, nobody but torchrun knows who the others are.
        met = run.path.exists()
        take_away(hosts, victim, fault)
        (other,) = set(hosts.names) - {victim}
        since = time.monotonic()
        while started.programs[other].poll() is None and time.monotonic() - since < MINUTE:
            time.sleep(0.1)
        if started.programs[other].poll() is None:
            return [f"{other} hangs"]
        time.sleep(1)
        if processes(hosts, other):
            faults.append("processes stay")
        if met and started.programs[other].returncode and " on host" not in started.told(other):
            faults.append("no host is named")
    with Hosts(2) as hosts:
        codes = torchrun(hosts, place / "second", 1, *words(run.path, batches)).codes()
    return faults + ([f"codes {codes}"] if any(codes) else []) + unlike(run, whole)


def kills(place: Path, batches: int, moments: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    chance, whole = random.Random(seed), RunFolder(place / "whole" / "run")
    with Hosts(2) as hosts:
        started = begun(hosts, place / "whole", whole.path, batches)
        since = time.monotonic()
        assert started.codes() == [0, 0], started.told("host0")
        seconds = time.monotonic() - since
    for n in range(moments):
        moment = chance.uniform(0, 0.95) * seconds
        victim, fault = f"host{chance.randrange(2)}", chance.choice(FAULTS)
        faults = once(place / str(n), batches, moment, victim, fault, whole)
        yield f"{n}: {victim} after {moment:.1f} s, {fault}: {', '.join(faults) or 'resumed, and the same'}", faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", type=int, default=600)
    options = parser.parse_args()
    if reason := lacking():
        print(reason, file=sys.stderr)
        return 2
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        for line, faults in kills(Path(place), options.batches, options.moments, options.seed):
            print(line, flush=True)
            bad += bool(faults)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
