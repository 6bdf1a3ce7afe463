"""A run that was stopped and resumed is the run that was not, in every number that it leaves behind."""

import csv
import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from omegaconf import OmegaConf

from composing import config
from costate.callbacks.checkpoints import Checkpoints, Interruption
from costate.config.schema import SettingError
from costate.config.settings import signature
from costate.execution.launching.supervisor import Listener
from costate.execution.serial import Serial
from costate.runs import RunFolder
from running import QUIET, SMALL, command, differences, fit, last

RUN = (*SMALL, *QUIET, "stages=2", "execution.lag=1", "method.mix=0.25", "method.warmup_steps=4", "seed=0")
BATCHES = 6  # an epoch of 96 rows
PRECISIONS = get_args(signature("costate.training.trainer.build").settings["precision"].kind)
DTYPES = {"32-true": torch.float32, "64-true": torch.float64, "bf16-true": torch.bfloat16}
TIMES = ("fit_seconds", "samples_per_second", "series_seconds", "theoretical_seconds")


def alarm(batch: int, signum: int) -> tuple[str, ...]:
    return tuple(f"+callbacks.alarm.{key}={value}" for key, value in (("batch", batch), ("signum", signum)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunFolder:
    """The run that is never stopped; it has a callback more, so that its settings are those of the others."""
    return fit(tmp_path_factory.mktemp("whole"), *RUN, "+callbacks.alarm._target_=alarm.Alarm", *alarm(-1, 0))


def stop(path: Path, batch: int, signum: int) -> RunFolder:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit) as exit:
        fit(path, *RUN, "+callbacks.alarm._target_=alarm.Alarm", *alarm(batch, signum))
    assert exit.value.code == 128 + signum
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    return RunFolder(path)


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with (folder.path / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("batch", "signum"),
    [
        (0, signal.SIGINT),  # the first
        (7, signal.SIGTERM),  # in the middle of an epoch, and one whose numbers are logged
        (BATCHES - 1, signal.SIGINT),  # the last of an epoch
        (BATCHES - 2, signal.SIGTERM),  # one batch is left of an epoch
        (3 * BATCHES - 1, signal.SIGTERM),  # the last of all
    ],
)
def test_a_run_that_is_stopped_by_a_signal_resumes_to_the_same_numbers(tmp_path, capfd, whole, batch, signum):
    folder = stop(tmp_path, batch, signum)
    assert capfd.readouterr().err.strip().endswith(f"Interrupted. To go on: python train.py resume={folder}")
    assert not folder.summary.exists()
    done = batch + 1
    assert last(folder)["global_step"] == done

    fit(tmp_path, f"resume={tmp_path}")
    skip = [
        ".callbacks.Throughput",
        ".callbacks.ParallelTime",
        ".callbacks.Refinement.seconds",
        ".hyper_parameters.callbacks.alarm",
        ".callbacks.Checkpoints.latest",
    ]
    assert [key for key in differences(last(folder), last(whole)) if not key.startswith(tuple(skip))] == []
    assert rows(folder) == rows(whole)
    same = [name for name in whole.results() if name not in (*TIMES, "overrides")]
    assert {name: folder.results()[name] for name in same} == {name: whole.results()[name] for name in same}


def test_time_adds_up_over_the_parts_of_a_run(tmp_path):
    folder = stop(tmp_path, 7, signal.SIGINT)
    state = last(folder)
    assert state["callbacks"]["Throughput"]["before"] > 0
    state["callbacks"]["Throughput"]["before"] = 1000.0
    torch.save(state, tmp_path / "checkpoints" / "last.ckpt")
    fit(tmp_path, f"resume={tmp_path}")
    assert 1000 < folder.results()["fit_seconds"] < 1100


def test_more_epochs_are_the_run_that_had_them_from_the_start(tmp_path):
    run = (*SMALL, *QUIET, "annealing=constant")
    straight = fit(tmp_path / "straight", *run, "epochs=4")
    twice = fit(tmp_path / "twice", *run, "epochs=2")
    fit(twice.path, f"resume={twice.path}", "epochs=4")
    skip = (
        ".callbacks.Throughput",
        ".callbacks.ParallelTime",
        ".callbacks.Refinement.seconds",
        ".callbacks.Checkpoints.latest",
    )
    assert [key for key in differences(last(twice), last(straight)) if not key.startswith(skip)] == []
    tested = [row for row in rows(twice) if row["test/accuracy"]]
    assert len(tested) == 1, "the test of the two epochs is not one of the four"
    assert rows(twice) == rows(straight)


def test_a_resumed_run_remembers_its_best_score_and_tests_that_checkpoint(tmp_path):
    folder = fit(tmp_path, *SMALL, *QUIET, "annealing=constant", "epochs=1")
    tested = folder.results()["test/loss"]
    best = (tmp_path / "checkpoints" / "best.ckpt").read_bytes()
    state = last(folder)
    state["callbacks"]["Checkpoints"]["record"] = {"val/accuracy": 2.0, "val/loss": 0.0}
    torch.save(state, tmp_path / "checkpoints" / "last.ckpt")
    fit(tmp_path, f"resume={tmp_path}", "epochs=2")
    assert (folder.results()["val/accuracy"], folder.results()["test/loss"]) == (2.0, tested)
    assert (tmp_path / "checkpoints" / "best.ckpt").read_bytes() == best


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", [word for word in PRECISIONS if word.endswith("true") and word != "16-true"])
@pytest.mark.parametrize("words", [("method=backprop",), ("method=coarse", "stages=2", "method.refresh=3")])
def test_a_resumed_run_has_all_digits_of_its_precision(tmp_path, precision, words):
    """Those of 64-true went through float32: the weights were read before the network was in float64."""
    run = (*SMALL, *QUIET, "annealing=constant", "callbacks=none", *words, f"trainer.precision={precision}")
    straight, twice = fit(tmp_path / "straight", *run, "epochs=2"), fit(tmp_path / "twice", *run, "epochs=1")
    fit(twice.path, f"resume={twice.path}", "epochs=2")
    state = last(straight)
    assert {p.dtype for name, p in state["state_dict"].items()} == {DTYPES[precision]}
    kept = ("state_dict", "optimizer_states", "execution", "iteration")
    assert [key for name in kept for key in differences(last(twice)[name], state[name], name)] == []
    assert twice.results()["test/loss"] == straight.results()["test/loss"]


def test_checkpoints_hold_the_resolved_settings_as_plain_values(whole):
    saved = OmegaConf.to_container(OmegaConf.load(whole.config))
    assert last(whole)["hyper_parameters"] == saved
    assert "${" not in whole.config.read_text()
    assert json.loads(whole.summary.read_text())["seed"] == 0


def test_a_signal_during_the_test_leaves_a_finished_training(tmp_path, whole):
    words = ("+callbacks.alarm._target_=alarm.AlarmInTest", *alarm(0, signal.SIGINT)[1:])
    with pytest.raises(SystemExit) as exit:
        fit(tmp_path, *RUN, *words)
    assert exit.value.code == 128 + signal.SIGINT
    assert not RunFolder(tmp_path).summary.exists()
    OmegaConf.save(OmegaConf.load(whole.config), tmp_path / "config.yaml")
    assert fit(tmp_path, f"resume={tmp_path}").results()["test/loss"] == whole.results()["test/loss"]


@pytest.mark.parametrize("override", ["arch=mlp", "arch.depth=9", "seed=3", "method=backprop", "stages=1", "clip=1"])
def test_another_training_is_refused(whole, override):
    key = override.partition("=")[0]
    with pytest.raises(SettingError, match=f"^{key} cannot change when a run is resumed"):
        fit(whole.path, f"resume={whole.path}", override)


def test_settings_that_say_the_same_are_no_change(whole):
    cfg = OmegaConf.create({"arch": {"depth": 4}, "resume": str(whole.path), "epochs": 9, "clip": None})
    folder = RunFolder(whole.path, ["arch.depth=4", f"resume={whole.path}", "epochs=9", "clip=null"])
    saved = folder.saved(cfg)
    assert saved == {**OmegaConf.load(whole.config), "epochs": 9}


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(SettingError, match="no run is there"):
        fit(tmp_path, f"resume={tmp_path}")


@pytest.mark.thorough
def test_the_command_that_an_interruption_proposes_goes_on(tmp_path):
    stopped = command(*SMALL, "+callbacks.alarm._target_=alarm.Alarm", *alarm(8, signal.SIGTERM), cwd=tmp_path)
    assert stopped.returncode == 128 + signal.SIGTERM
    proposal = stopped.stderr.strip().splitlines()[-1].split()[-1]
    assert proposal.startswith("resume=runs/")
    resumed = command(proposal, cwd=tmp_path)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert "epoch   2/3" in resumed.stdout
    again = command(proposal, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert "has finished its 3 epochs" in again.stdout


def test_a_run_of_an_earlier_version_goes_on_with_classes_where_they_are_today(tmp_path, whole):
    """When files were merged, folders of earlier runs named modules that were no more: resume= was a traceback."""
    run = fit(tmp_path / "early", *RUN, "epochs=1")
    now = run.config.read_text()
    moved = now.replace("costate.training.optimizers.", "costate.training.adam.").replace(".serial.", ".ser.ial.")
    assert moved != now, "both"
    run.config.write_text(moved)
    fit(run.path, f"resume={run.path}", "epochs=2")
    assert run.results()["epochs"] == 2
    run.config.write_text(now.replace("optimizers.Adam", "adam.Adamant"))
    with pytest.raises(SettingError, match=r"another version of Costate: it has .*Adamant, which this one has not\.$"):
        fit(run.path, f"resume={run.path}", "epochs=3")


def test_a_second_signal_ends_the_process_at_once_unless_it_is_the_first_one_again(tmp_path, monkeypatch):
    sent: list[tuple[int, object]] = []
    monkeypatch.setattr("os.kill", lambda pid, signum: sent.append((signum, signal.getsignal(signum))))
    clock = iter([10.0, 11.5, 13.0])
    monkeypatch.setattr("costate.execution.launching.supervisor.time", SimpleNamespace(monotonic=lambda: next(clock)))
    interruption = Interruption(Checkpoints(tmp_path, "", "max"), Serial.__new__(Serial), "")
    with interruption.listener:
        for many in (0, 0, 1):
            signal.raise_signal(signal.SIGINT)
            assert sent == [(signal.SIGINT, signal.SIG_DFL)] * many


def test_a_preempted_run_is_saved_at_the_end_of_a_batch_and_handed_over(tmp_path):
    """The signal's own handler left in the middle of a batch, and without a checkpoint."""

    def requeue(signum, frame):
        raise SystemExit(77)

    before = signal.signal(signal.SIGUSR2, requeue)
    with pytest.raises(SystemExit) as exit:
        fit(tmp_path, *RUN, "+callbacks.alarm._target_=alarm.Alarm", *alarm(7, signal.SIGUSR2))
    assert signal.signal(signal.SIGUSR2, before) is requeue
    assert exit.value.code == 77
    assert last(RunFolder(tmp_path))["global_step"] == 8


def test_a_preempted_job_of_slurm_is_queued_again(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    calls = []
    monkeypatch.setattr(
        "costate.execution.launching.supervisor.subprocess.run", lambda words, check: calls.append(words)
    )
    stopped = []
    with Listener(stopped.append, stopped.append) as listener:
        signal.raise_signal(signal.SIGTERM)
        listener.hand_over()
        assert calls == []
        signal.raise_signal(signal.SIGUSR1)
        listener.hand_over()
    assert (stopped, calls) == ([signal.SIGTERM], [["scontrol", "requeue", "12"]])


def test_late_gradients_between_spans_stay_when_the_execution_is_named_again(tmp_path):
    recurrent = ("arch=lstm", "data=adding", "method=sg")
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(config(*recurrent, "execution.later=0.9")))
    word = "execution=unrolled"
    assert RunFolder(tmp_path, [word]).saved(config(*recurrent, word, f"resume={tmp_path}")).execution.later == 0.9


@pytest.mark.parametrize("word", ["execution.lag=2", "execution.wire=bf16", "execution.later=0.5"])
def test_what_an_execution_changes_of_the_numbers_stays(tmp_path, word):
    recurrent = ("arch=lstm", "data=adding", "method=sg") if "later" in word else ()
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(config(*recurrent)))
    with pytest.raises(SettingError, match=f"{word.partition('=')[0]} cannot change when a run is resumed"):
        RunFolder(tmp_path, [word]).saved(config(*recurrent, word, f"resume={tmp_path}"))


@pytest.mark.parametrize("word", ["execution=pipeline", "trainer=ddp"])
def test_other_processes_change_neither_precision_nor_batches(tmp_path, word):
    """They came from the new trainer, in silence; where they are named themselves they may change."""
    own = ("trainer.precision=bf16-mixed", "trainer.train_batches=3")
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(config("method=sg", "execution.lag=1", *own)))
    for more, precision in (((), "bf16-mixed"), (("trainer.precision=64-true",), "64-true")):
        for words in ((word, *more), (*more, word)):
            saved = RunFolder(tmp_path, words).saved(config(*words, f"resume={tmp_path}"))
            assert (saved.trainer.precision, saved.trainer.train_batches) == (precision, 3)
            assert saved.trainer.devices == 2
