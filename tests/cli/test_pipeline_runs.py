"""train.py with one stage a process: the run that one process makes, faults included."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from costate.runs import RunFolder
from running import QUIET, ROOT, SMALL, command, differences, fit, interrupted, last, ranks_of, refusal

RUN = (*SMALL, *QUIET, "stages=2", "arch.norm=true", "seed=0", "+callbacks.alarm._target_=alarm.Alarm")
CALM = ("+callbacks.alarm.batch=-1", "+callbacks.alarm.signum=0", "+callbacks.alarm.rank=1")
PIPELINE = ("execution=pipeline",)
TIMES = ("seconds", "samples_per_second", "busy", "stall_ms", "queue", "staleness")
BATCHES = 6


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> RunFolder:
    return fit(tmp_path_factory.mktemp("serial"), *RUN, *CALM, "execution.lag=1")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> RunFolder:
    folder = tmp_path_factory.mktemp("pipeline")
    done = command(*RUN, *CALM, *PIPELINE, "execution.trace=true", f"hydra.run.dir={folder}", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return RunFolder(folder)


def same(found: RunFolder, expected: RunFolder) -> None:
    """The same end: weights, optimizer, what is pending, and every result that is no time."""
    skip = (".hyper_parameters", ".callbacks", ".hparams", ".loops")
    assert [key for key in differences(last(found), last(expected)) if not key.startswith(skip)] == []
    a, b = found.results(), expected.results()
    names = [name for name, value in b.items() if isinstance(value, float) and not name.endswith(TIMES)]
    assert {name: a[name] for name in names} == pytest.approx({name: b[name] for name in names}, rel=1e-6)
    assert a["test/accuracy"] == b["test/accuracy"]


def test_a_pipeline_ends_where_one_process_ends(serial, pipeline):
    same(pipeline, serial)


def test_the_log_tells_how_busy_each_stage_was(pipeline):
    results = pipeline.results()
    for k in (0, 1):
        assert 0 < results[f"stage/{k}/busy"] <= 1
        assert results[f"stage/{k}/stall_ms"] >= 0
    assert results["stage/0/staleness"] == pytest.approx(1, abs=0.5), "the first batch has nothing to learn from"
    with pipeline.metrics.open() as file:
        logged = [row["stage/1/busy"] for row in csv.DictReader(file)]
    assert sum(map(bool, logged)) > 2


def test_the_timeline_has_every_operation_of_every_rank(pipeline):
    events = json.loads((pipeline.path / "trace.json").read_text())["traceEvents"]
    rows = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert rows == {0: "rank 0, stage 1", 1: "rank 1, stage 0"}
    for pid in rows:
        work = [event for event in events if event["ph"] == "X" and event["pid"] == pid]
        for name in ("forward", "update"):
            assert [e["args"]["batch"] for e in work if e["name"] == name] == list(range(3 * BATCHES)), name
        ends = [event["ts"] + event["dur"] for event in work]
        assert all(end <= event["ts"] + 1 for end, event in zip(ends, work[1:], strict=False)), "one after the other"
    learnt = [e["args"]["batch"] for e in events if e["name"] == "learn"]
    assert learnt == list(range(3 * BATCHES - 1)), "one batch late, and the last batch's gradient is kept"


@pytest.mark.thorough
def test_a_run_goes_on_with_another_execution(tmp_path, serial):
    """A checkpoint of either execution loads in the other."""
    words = [word for word in RUN if not word.startswith("epochs=")]
    one, two = tmp_path / "one", tmp_path / "two"
    fit(one, *words, *CALM, "epochs=1", "execution.lag=1")
    done = command(f"resume={one}", "epochs=2", "execution=pipeline", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    fit(one, f"resume={one}", "epochs=3", "execution=serial")
    # The annealing knows the number of epochs from the start.
    for epochs in (1, 2, 3):
        resumed = [f"resume={two}"] if epochs > 1 else [*words, *CALM, "execution.lag=1"]
        fit(two, *resumed, f"epochs={epochs}")
    same(RunFolder(one), RunFolder(two))


def test_the_lag_stays_when_a_run_goes_on(tmp_path, serial):
    done = command(f"resume={serial.path}", "epochs=4", "execution=pipeline", "execution.lag=2", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("execution.lag cannot change when a run is resumed")


@pytest.mark.filterwarnings("ignore:Be aware that when using")  # callbacks that are left out
def test_a_rank_that_is_killed_ends_the_run_and_it_can_be_resumed(tmp_path, pipeline):
    alarm = (f"+callbacks.alarm.batch={BATCHES + 2}", f"+callbacks.alarm.signum={signal.SIGKILL:d}")
    start = time.monotonic()
    done = command(*RUN, *alarm, "+callbacks.alarm.rank=1", *PIPELINE, f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert time.monotonic() - start < 60
    assert done.returncode == 128 + signal.SIGKILL
    assert done.stderr.splitlines()[-1] == (
        "Rank 1 of 2 was killed by SIGKILL (the system does so when memory runs out), and the others were ended with "
        f"it: go on from its last checkpoint with resume={tmp_path}."
    )
    assert ranks_of(tmp_path) == []
    ended = last(fit(tmp_path, f"resume={tmp_path}", "callbacks=none", "execution=serial"))
    assert differences(ended["state_dict"], last(pipeline)["state_dict"]) == []


@pytest.mark.thorough
def test_ctrl_c_ends_all_ranks_and_leaves_a_checkpoint(tmp_path, pipeline):
    done = interrupted(*RUN, *CALM, *PIPELINE, f"hydra.run.dir={tmp_path}", "epochs=3", cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert done.stderr.strip().endswith("Interrupted. To go on: python train.py resume=.")
    assert ranks_of(tmp_path) == []
    assert command(f"resume={tmp_path}", "callbacks=none", cwd=tmp_path).returncode == 0
    assert differences(last(RunFolder(tmp_path))["state_dict"], last(pipeline)["state_dict"]) == []


@pytest.mark.parametrize("refresh", [0.25, 0.9])
def test_stages_that_make_their_own_inputs_stop_when_asked(tmp_path, refresh):
    """No state travels that could carry the wish: it ended in an assertion, or, of rare copies, most of a run later."""
    own = ("method=coarse", "method.inputs=coarse", f"method.refresh={refresh}", "arch.depth=4", "method.factor=2")
    alarm = (f"+callbacks.alarm.batch={BATCHES + 1}", f"+callbacks.alarm.signum={signal.SIGINT:d}")
    words = (*RUN, *PIPELINE, *own, "epochs=20", *alarm, "+callbacks.alarm.rank=1")
    done = command(*words, f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "To go on: python train.py resume=." in done.stderr
    assert last(RunFolder(tmp_path))["global_step"] < 9 * BATCHES


@pytest.mark.thorough
def test_torchrun_starts_the_same_run(tmp_path, pipeline):
    words = [*RUN, *CALM, *PIPELINE, f"hydra.run.dir={tmp_path}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, str(ROOT / "train.py"), *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert differences(last(RunFolder(tmp_path))["state_dict"], last(pipeline)["state_dict"]) == []


def test_a_pipeline_of_one_stage_is_refused(tmp_path):
    sentence = "execution=pipeline puts each stage on a process of its own: choose stages=2 or more."
    assert refusal(tmp_path, *RUN, *CALM, *PIPELINE, "stages=1") == sentence


def test_ranks_with_different_settings_are_refused(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *RUN, *CALM, *PIPELINE, f"seed={r}", f"hydra.run.dir={tmp_path}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **places, "RANK": str(r), "LOCAL_RANK": str(r)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in (0, 1)
    ]
    _, told = ranks[1].communicate(timeout=120)
    ranks[0].kill()
    ranks[0].communicate()
    assert ranks[1].returncode == 2
    assert told.strip() == "Rank 1 was started with seed=1 and rank 0 with seed=0: start all ranks by the same command."
