"""train.py on several hosts, as the docs say it: what one process makes, and nobody listens but where they share."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import torch

from costate.benchmarks.hosts import Hosts, lacking
from costate.runs import RunFolder
from hosted import FAULTS, PAUSE, processes, take_away, torchrun
from running import QUIET, SMALL, fit, last, unlike

pytestmark = pytest.mark.thorough

RUN = (*SMALL, *QUIET, "seed=0", "callbacks=none")
PIPELINE = "execution=pipeline"
ASYNCHRONOUS = ("execution=asynchronous", "execution.max_staleness=0", "execution.interface=eth0")
MODES = {
    "two stages": (2, 1, (PIPELINE, "stages=2"), ("stages=2", "execution.lag=1")),
    "three stages": (3, 1, (PIPELINE, "stages=3"), ("stages=3", "execution.lag=1")),
    "two stages a host": (2, 2, (PIPELINE, "stages=4"), ("stages=4", "execution.lag=1")),
    "replicas": (2, 2, (PIPELINE, "stages=2", "execution.replicas=2"), ("stages=2", "execution.lag=1")),
    "ddp": (2, 1, ("trainer=ddp", "stages=2"), ("stages=2",)),
    "asynchronous": (3, 1, (*ASYNCHRONOUS, "stages=2"), ("stages=2", "execution.lag=1")),
}
ROUNDED = "replicas", "ddp"
"""Their gradients are sums of parts."""


@pytest.fixture
def hosts(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    if reason := lacking():
        pytest.skip(reason)
    with Hosts(getattr(request, "param", 3)) as found:
        yield found


@pytest.mark.parametrize("mode", MODES)
def test_several_hosts_end_where_one_process_ends(tmp_path, mode):
    if reason := lacking():
        pytest.skip(reason)
    count, ranks, several, one = MODES[mode]
    alone, run = fit(tmp_path / "alone", *RUN, *one), RunFolder(tmp_path / "run")
    with Hosts(count) as hosts:
        started = torchrun(hosts, tmp_path / "logs", ranks, *RUN, *several, f"hydra.run.dir={run.path}")
        heard = started.listening()
        assert started.codes() == [0] * count, started.told("host0")
        assert heard == {name: {hosts.address(name)} for name in hosts.names}
    if mode in ROUNDED:
        ours, theirs = (last(folder)["state_dict"] for folder in (run, alone))
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in theirs)
    else:
        assert unlike(run, alone) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_host_that_is_gone_is_named_and_a_second_start_goes_on(tmp_path, hosts, fault):
    words = [*RUN, PIPELINE, "stages=3", "epochs=4", *PAUSE, f"hydra.run.dir={tmp_path / 'run'}"]
    started = torchrun(hosts, tmp_path / "first", 1, *words)
    started.wait((tmp_path / "run" / "checkpoints" / "last.ckpt").exists)
    take_away(hosts, "host1", fault)
    since = time.monotonic()
    assert started.codes("host0", "host2", seconds=60) == [1, 1]
    assert time.monotonic() - since < 60
    what = "failed (what has started it is gone)" if "torchrun" in fault else "has not been heard of for 15 s"
    for name in ("host0", "host2"):
        lines = [line for line in started.told(name).splitlines() if "on host1" in line]
        assert lines == [
            f"Rank 1 on host1 {what}, and this run ended with it: go on from its last checkpoint with "
            f"resume={tmp_path / 'run'}."
        ]
        assert processes(hosts, name) == []
    if "killed" in fault:
        assert processes(hosts, "host1") == []
    with Hosts(3) as others:
        again = torchrun(others, tmp_path / "second", 1, *words)
        assert again.codes() == [0, 0, 0], again.told("host0")
        assert "epoch   1/" not in again.told("host0"), "it begins again"
    alone = fit(tmp_path / "alone", *RUN, "stages=3", "execution.lag=1", "epochs=4")
    assert unlike(RunFolder(tmp_path / "run"), alone) == []


@pytest.mark.parametrize(
    ("fault", "what", "code"),
    [
        ("it is switched off", "is not reached any more", 1),
        # Torchrun, which waits for an answer of it, has to be ended.
        ("its link is taken away", "has not been heard of for 15 s", -signal.SIGKILL),
    ],
)
def test_the_host_where_all_have_met_is_named_too(tmp_path, hosts, fault, what, code):
    """With it goes what torchrun needs: it ended its ranks before they had said a word, or it waited for ever."""
    words = [*RUN, PIPELINE, "stages=3", "epochs=4", *PAUSE, f"hydra.run.dir={tmp_path / 'run'}"]
    started = torchrun(hosts, tmp_path / "first", 1, *words)
    started.wait((tmp_path / "run" / "checkpoints" / "last.ckpt").exists)
    take_away(hosts, "host0", fault)
    assert started.codes("host1", "host2", seconds=60) == [code, code]
    for name in ("host1", "host2"):
        lines = [line for line in started.told(name).splitlines() if "on host0" in line]
        assert lines == [
            f"Rank 0 on host0 {what}, and this run ended with it: go on from its last checkpoint with "
            f"resume={tmp_path / 'run'}."
        ]
        started.wait(lambda name=name: processes(hosts, name) == [], seconds=5)


def test_torchrun_starts_ranks_again_and_the_run_goes_on_by_itself(tmp_path, hosts):
    """In the folder that it had, which nobody has named."""
    alarm = {"batch": 9, "signum": int(signal.SIGKILL), "rank": 1, "mark": tmp_path / "killed"}
    words = ["+callbacks.alarm._target_=alarm.AlarmOnce", *(f"+callbacks.alarm.{k}={v}" for k, v in alarm.items())]
    started = torchrun(hosts, tmp_path / "cwd", 1, *RUN, PIPELINE, "stages=3", *words, restarts=1)
    assert started.codes() == [0, 0, 0], started.told("host0")
    assert (tmp_path / "killed").exists()
    (run,) = (tmp_path / "cwd" / "runs").glob("*/*")
    alone = fit(tmp_path / "alone", *RUN, "stages=3", "execution.lag=1")
    assert unlike(RunFolder(run), alone) == []


HOLDS = """
import sys, time
from costate.benchmarks.hosts import Hosts
with Hosts(2) as hosts:
    hosts.start("host1", ["sleep", sys.argv[1]])
    print("there", flush=True)
    time.sleep(60)
"""


def test_hosts_end_with_whoever_made_them(tmp_path):
    if reason := lacking():
        pytest.skip(reason)
    mark = f"61.{os.getpid()}"
    with subprocess.Popen([sys.executable, "-c", HOLDS, mark], stdout=subprocess.PIPE) as program:
        assert program.stdout.readline() == b"there\n"
        asleep = ["pgrep", "-f", f"sleep {mark}"]
        assert subprocess.run(asleep, capture_output=True).stdout
        program.kill()
    time.sleep(0.5)
    assert not subprocess.run(asleep, capture_output=True).stdout
