"""train.py with method=pvd: in one process, one worker a process, stopped, killed and resumed."""

import csv
import os
import signal

import pytest

from costate.runs import RunFolder
from running import QUIET, SMALL, command, differences, fit, last, ranks_of, refusal

RUN = (
    *SMALL,
    *QUIET,
    "method=pvd",
    "method.outer_batch=32",
    "method.solver.steps=3",
    "data.batch_size=20",
    "arch.norm=true",
    "epochs=3",
    "seed=0",
    "+callbacks.alarm._target_=alarm.Alarm",
)
BATCHES = 3  # an epoch of 96 rows
SKIP = (".hyper_parameters", ".hparams", ".callbacks", ".loops")


def alarm(batch: int, signum: int, rank: int = 0) -> list[str]:
    values = {"batch": batch, "signum": int(signum), "rank": rank}
    return [f"+callbacks.alarm.{name}={value}" for name, value in values.items()]


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> RunFolder:
    return fit(tmp_path_factory.mktemp("serial"), *RUN, *alarm(-1, 0))


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with folder.metrics.open() as file:
        return [row for row in csv.DictReader(file) if row["pvd/f/start"]]


def test_each_outer_iteration_is_logged(serial):
    found = rows(serial)
    assert [int(row["step"]) for row in found] == list(range(3 * BATCHES))
    for row in found:
        number = {name: float(value) for name, value in row.items() if name.startswith("pvd/") and value}
        ends = [number["pvd/f/worker/0"], number["pvd/f/worker/1"]]
        assert number["pvd/f/end"] <= min(ends) <= max(ends) <= number["pvd/f/start"]
        assert {"pvd/lambda/0", "pvd/lambda/1", "pvd/mu/0/1", "pvd/mu/1/0"} <= number.keys()
        seconds = {name.removeprefix("pvd/seconds/"): x for name, x in number.items() if "/seconds/" in name}
        workers = seconds["worker/0"], seconds["worker/1"]
        alike = seconds["start"] + seconds["synchronisation"]
        assert seconds["theoretical"] == pytest.approx(alike + max(workers))
        assert seconds["measured"] >= alike + sum(workers)
        assert abs(seconds["communication"]) < 0.05, "there is nobody to talk to"


def test_the_results_have_the_theoretical_time(serial):
    results, found = serial.results(), rows(serial)
    for name in ("theoretical", "measured"):
        total = sum(float(row[f"pvd/seconds/{name}"]) for row in found)
        assert results[f"pvd/{name}_seconds"] == pytest.approx(total)
    assert results["pvd/theoretical_seconds"] < results["pvd/measured_seconds"]


@pytest.mark.parametrize("batch", [1, BATCHES - 1])
def test_a_run_that_is_stopped_resumes_to_the_same_numbers(tmp_path, serial, batch):
    with pytest.raises(SystemExit) as exit:
        fit(tmp_path, *RUN, *alarm(batch, signal.SIGINT))
    assert exit.value.code == 128 + signal.SIGINT
    folder = fit(tmp_path, f"resume={tmp_path}")
    assert [key for key in differences(last(folder), last(serial)) if not key.startswith(SKIP)] == []
    told = ("step", "pvd/f/start", "pvd/f/end", "pvd/lambda/0", "pvd/mu/1/0")
    assert [[row[name] for name in told] for row in rows(folder)] == [
        [row[name] for name in told] for row in rows(serial)
    ]
    assert folder.results()["test/loss"] == serial.results()["test/loss"]


@pytest.mark.thorough
def test_a_worker_that_is_killed_ends_the_run_and_it_goes_on_to_what_one_process_has(tmp_path, serial):
    words = [*RUN, "execution=parallel", "workers=2", *alarm(BATCHES + 1, signal.SIGKILL, rank=1)]
    done = command(*words, f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "Rank 1 of 2 was killed by SIGKILL (the system does so when memory runs out), and the others were ended with "
        f"it: go on from its last checkpoint with resume={tmp_path}."
    )
    assert not ranks_of(tmp_path)
    done = command(f"resume={tmp_path}", "callbacks=default", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    ended = RunFolder(tmp_path)
    assert [key for key in differences(last(ended), last(serial)) if not key.startswith(SKIP)] == []
    results = ended.results()
    assert results["ranks"] == 2
    assert 0 < results["pvd/theoretical_seconds"] <= results["pvd/measured_seconds"]
    assert results["test/loss"] == pytest.approx(serial.results()["test/loss"], rel=1e-6)
    fit(tmp_path, f"resume={tmp_path}", "execution=serial", "epochs=4")
    assert last(ended)["global_step"] == 4 * BATCHES, "one process goes on where several have stopped"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["method=pvd", "execution=pipeline"], "method=pvd has workers and no stages that run side by side"),
        (["method=sg", "execution=parallel"], "execution=parallel runs the workers of method=pvd"),
        (["method=pvd", "execution=parallel", "workers=3"], "workers=3 and method.blocks=2"),
        (["method=pvd", "execution=parallel", "method.blocks=1"], "choose method.blocks=2 or more"),
        (["method=pvd", "method.blocks=5"], "method.blocks=5 asks for 5 groups of layers, more than the 4 layers"),
        (["method=pvd", "stages=3"], "stages=3 asks for others: leave stages out"),
        (["method=pvd", "method.minibatch=8"], "needs method/solver=adam"),
        (["method=pvd", "workers=2"], "workers"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, words, sentence):
    if "workers=2" in words:
        from hydra.errors import ConfigCompositionException

        with pytest.raises(ConfigCompositionException, match=sentence):
            fit(tmp_path / "run", *SMALL, *words)
    else:
        reason = refusal(tmp_path / "run", *SMALL, *words, "trainer.progress=none")
        assert sentence in reason
        assert "\n" not in reason
    assert not (tmp_path / "run").exists(), "training has begun"


@pytest.mark.parametrize(
    "words",
    [
        ["arch=mlp", "arch.widths=[8]", "method.head=own", "method/solver=adam", "method.minibatch=8"],
        ["levels=double", "levels.count=2", "method.blocks=1"],
        ["data=surface", "data.validation=20", "data.test=20", "arch=antisymmetric", "arch.norm=true", "clip=1"],
    ],
)
def test_it_goes_with_the_other_axes(tmp_path, words):
    small = [word for word in SMALL if "data=surface" not in words or word != "data=ellipse"]
    small = [word for word in small if not (words[0] == "arch=mlp" and word.startswith("arch."))]
    results = fit(tmp_path, *small, *QUIET, "method=pvd", "method.solver.steps=2", *words).results()
    assert results["pvd/measured_seconds"] > 0
    assert os.path.exists(tmp_path / "checkpoints" / "best.ckpt")
