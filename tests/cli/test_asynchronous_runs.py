"""train.py with stages and an oracle as processes of their own: results, faults, Ctrl-C, and what listens."""

import csv
import os
import signal
import subprocess
import sys

import pytest

from costate.runs import RunFolder
from hosted import listening
from running import QUIET, ROOT, SMALL, command, differences, fit, interrupted, last, ranks_of

RUN = (*SMALL, *QUIET, "stages=2", "seed=0", "execution=asynchronous")
BATCHES = 6
ONCE = (
    "+callbacks.alarm._target_=alarm.AlarmOnce",
    f"+callbacks.alarm.batch={BATCHES + 3}",
    f"+callbacks.alarm.signum={signal.SIGKILL:d}",
)


@pytest.fixture(scope="module")
def restarted(tmp_path_factory) -> RunFolder:
    """A run whose oracle is killed in its second epoch, and that torchrun starts again."""
    folder = tmp_path_factory.mktemp("asynchronous")
    alarm = [*ONCE, "+callbacks.alarm.rank=2", f"+callbacks.alarm.mark={folder / 'killed'}"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "--max-restarts=1"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(ROOT / "train.py"), *RUN, *alarm, f"hydra.run.dir={folder / 'run'}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "killed").exists()
    return RunFolder(folder / "run")


@pytest.mark.thorough
def test_a_run_whose_oracle_is_killed_goes_on_by_itself(restarted):
    assert last(restarted)["global_step"] == 3 * BATCHES
    assert restarted.results()["epochs"] == 3


@pytest.mark.thorough
def test_each_role_says_how_it_fares(restarted):
    run = restarted
    results = run.results()
    assert results["messages_lost"] == 0
    assert results["messages_sent"] == results["messages_received"] > 0
    for role in ("stage/0", "stage/1", "oracle"):
        assert results[f"{role}/updates_per_second"] > 0
    for role in ("stage/1", "oracle/0"):
        assert {f"{role}/{name}" for name in ("queue", "dropped", "replayed", "staleness")} <= results.keys()
    for role in ("stage/0", "stage/1", "oracle/0"):
        bins = [
            value for name, value in results.items() if name.startswith(f"{role}/staleness_") and "most" not in name
        ]
        assert sum(bins) == pytest.approx(1)
        assert results[f"{role}/staleness_most"] <= 1 + 8
    with run.metrics.open() as file:
        assert sum(bool(row["stage/1/queue"]) for row in csv.DictReader(file)) > 2


@pytest.mark.thorough
def test_its_checkpoint_loads_in_one_process(restarted):
    run = restarted
    before = last(run)["state_dict"]
    fit(run.path, f"resume={run.path}", "epochs=4", "execution=serial", "callbacks=none")
    after = last(run)
    assert after["global_step"] == 4 * BATCHES
    assert after["state_dict"].keys() == before.keys()
    assert len(differences(after["state_dict"], before)) == len(before), "all tensors have been trained"


@pytest.mark.thorough
def test_a_run_whose_output_half_is_killed_ends_in_one_sentence(tmp_path):
    alarm = [*ONCE, "+callbacks.alarm.rank=0", f"+callbacks.alarm.mark={tmp_path / 'killed'}"]
    done = command(*RUN, *alarm, "execution.oracle=colocated", f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGKILL
    assert done.stderr.splitlines()[-1] == (
        "Rank 0 of 2 was killed by SIGKILL (the system does so when memory runs out), and the others were ended with "
        f"it: go on from its last checkpoint with resume={tmp_path / 'run'}."
    )
    assert ranks_of(tmp_path / "run") == []


@pytest.mark.thorough
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_role_that_fails_is_named(tmp_path, rank):
    """Messages that came while its interpreter ended had it killed by SIGABRT, and others told of their lost line."""
    fault = ("+callbacks.fault._target_=alarm.Fault", "+callbacks.fault.batch=9", f"+callbacks.fault.rank={rank}")
    done = command(*RUN, *fault, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 1
    assert f"Rank {rank} of 3 failed (LookupError: nothing there), and the others" in done.stderr.splitlines()[-1]


@pytest.mark.thorough
def test_ctrl_c_ends_all_roles_and_none_of_them_has_listened_to_the_world(tmp_path):
    heard: set[str] = set()

    def look() -> None:
        heard.update(address for pid in ranks_of(tmp_path) for address in listening(pid))

    done = interrupted(*RUN, f"hydra.run.dir={tmp_path}", cwd=tmp_path, meanwhile=look)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert done.stderr.strip().endswith("Interrupted. To go on: python train.py resume=.")
    assert ranks_of(tmp_path) == []
    assert heard == {"127.0.0.1"}
    assert BATCHES < last(RunFolder(tmp_path))["global_step"] < 3 * BATCHES, "of the batch that all stopped behind"
