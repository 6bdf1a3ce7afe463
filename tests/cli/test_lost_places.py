"""Places that are not there, and services that go away: a sentence, and nothing is lost."""

import csv
import os
import signal

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from costate.runs import RunFolder
from costate.training.loggers import Tolerant
from running import QUIET, SMALL, command, fit, refusal


class Broken(Logger):
    """A logger whose service goes away behind its second number."""

    name, version, seen = "", "", 0

    def log_hyperparams(self, *arguments: object) -> None: ...

    def log_metrics(self, *arguments: object) -> None:
        self.seen += 1
        if self.seen > 2:
            raise ConnectionResetError("Connection lost")


def test_a_logger_that_fails_is_told_of_once_and_asked_no_more(capsys):
    left: list[str] = []
    logger = Tolerant(Broken(), "TensorBoard", leave=lambda: left.append("nobody else asks"))
    for step in range(5):
        logger.log_metrics({"a": 1.0}, step)
        logger.save()
    logger.finalize("success")
    assert logger.logger.seen == 3
    assert left == ["nobody else asks"]
    assert capsys.readouterr().err == (
        "TensorBoard has failed (Connection lost): the run goes on with metrics.csv alone.\n"
    )


class NoService(Callback):
    """Ends W&B's service process, as the system does when memory runs out."""

    def on_train_epoch_end(self, *arguments: object) -> None:
        for pid in os.popen(f"pgrep -P {os.getpid()} -f wandb-core").read().split():
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.thorough
def test_a_run_outlives_the_service_of_wandb(tmp_path):
    pytest.importorskip("wandb")
    words = ("logger=wandb", "+callbacks.no_service._target_=cli.test_lost_places.NoService")
    done = command(*SMALL, *QUIET, *words, f"hydra.run.dir={tmp_path}/run", cwd=tmp_path, WANDB_MODE="offline")
    assert (done.returncode, done.stderr) == (
        0,
        "W&B has failed (Connection lost): the run goes on with metrics.csv alone.\n",
    )
    folder = RunFolder(tmp_path / "run")
    assert folder.results()["epochs"] == 3
    with folder.metrics.open() as file:
        validated = [row["epoch"] for row in csv.DictReader(file) if row["val/loss"]]
    assert validated == ["0", "1", "2"]


def test_a_damaged_checkpoint_and_too_few_epochs_are_a_sentence(tmp_path):
    folder = fit(tmp_path, *SMALL, *QUIET, "epochs=2")
    path = folder.checkpoints / "last.ckpt"
    folder.summary.unlink()
    assert refusal(tmp_path, f"resume={tmp_path}", "epochs=1") == "epochs=1 is less than the 2 that are done."
    path.write_bytes(path.read_bytes()[:1000])
    assert f"{path} is damaged" in (told := refusal(tmp_path, f"resume={tmp_path}"))
    assert os.system(told[told.index("cp ") :].partition(" lets ")[0]) == 0
    assert fit(tmp_path, f"resume={tmp_path}").results()["epochs"] == 2


@pytest.mark.thorough
def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    done = command("data=ellipse", "hydra.run.dir=file/run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "file/run cannot be written to (Not a directory): choose another folder.\n",
    )


@pytest.mark.thorough
def test_an_interrupted_sweep_goes_on_by_the_same_command(tmp_path):
    words = ("-m", *SMALL, *QUIET, "seed=0,1,2", "hydra.sweep.dir=sweep")
    alarm = [f"+callbacks.alarm.{key}" for key in (f"signum={signal.SIGTERM:d}", "batch=8", "rank=0")]
    alarm += ["+callbacks.alarm._target_=alarm.AlarmOnce", f"+callbacks.alarm.mark='{tmp_path}/rang'"]
    done = command(*words, *alarm, cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert not (tmp_path / "sweep" / "1").exists()
    done = command(*words, *alarm, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stamps = [(tmp_path / "sweep" / str(n) / "summary.json").stat().st_mtime_ns for n in range(3)]
    table = (tmp_path / "sweep" / "summary.md").read_text()
    assert "| 3 |" in table
    again = command(*words, *alarm, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("has finished its 3 epochs") == 3
    assert [(tmp_path / "sweep" / str(n) / "summary.json").stat().st_mtime_ns for n in range(3)] == stamps
