"""What a task of SLURM would run, one a rank, on hosts of this machine: it trains, is preempted, and goes on."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from costate.benchmarks.hosts import Hosts, lacking
from costate.execution.launching import meeting
from costate.runs import RunFolder
from hosted import PAUSE, Started, processes
from running import QUIET, ROOT, SMALL, fit, last, unlike

RUN = (*SMALL, *QUIET, "seed=0", "callbacks=none", "stages=2", "epochs=4")
PLACES = ("trainer.devices=1", "trainer.num_nodes=2")


def step(rank: int) -> dict[str, str]:
    """What `srun --nodes=2 --ntasks-per-node=1` tells a task."""
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": str(rank),
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
        "SLURM_STEP_NODELIST": "host[0-1]",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "host[0-1]",
    }


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if reason := lacking():
        pytest.skip(reason)
    with Hosts(2) as found:
        yield found


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node7", "node7"), ("node[03-05,07]", "node03"), ("gpu-a[1,3],gpu-b2", "gpu-a1"), ("x1,x2", "x1")],
)
def test_ranks_meet_on_the_first_node(nodes, first):
    assert meeting.first_host(nodes) == first


def test_a_task_takes_its_place(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy() | step(1))
    meeting.take_place()
    assert meeting.rank() == 1
    assert [os.environ[name] for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")] == ["2", "1", "host0"]


def requeueing(folder: Path) -> str:
    """A path with an `scontrol` that notes what it is asked."""
    folder.mkdir()
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n')
    (folder / "scontrol").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.thorough
def test_a_preempted_pipeline_is_queued_again_and_goes_on(tmp_path, hosts):
    """SIGUSR1 comes to every task, as by `#SBATCH --signal=USR1@90`."""
    path, run = requeueing(tmp_path / "bin"), RunFolder(tmp_path / "run")
    command = [sys.executable, str(ROOT / "train.py"), *RUN, *PAUSE, "execution=pipeline", *PLACES]
    command += [f"hydra.run.dir={run.path}"]
    tasks = {f"host{rank}": {**step(rank), "PATH": path} for rank in (0, 1)}
    first = Started(hosts, tmp_path / "first", command, **tasks)
    first.wait((run.checkpoints / "last.ckpt").exists)
    for name in hosts.names:
        for pid in processes(hosts, name, str(ROOT / "train.py")):
            os.kill(pid, signal.SIGUSR1)
    assert first.codes() == [128 + signal.SIGUSR1] * 2, first.told("host0")
    assert (tmp_path / "bin" / "asked").read_text() == "requeue 4711\n"
    assert last(run)["global_step"] < 4 * 6
    second = Started(hosts, tmp_path / "second", command, **tasks)
    assert second.codes() == [0, 0], second.told("host0")
    assert unlike(run, fit(tmp_path / "alone", *RUN, "execution.lag=1")) == []
