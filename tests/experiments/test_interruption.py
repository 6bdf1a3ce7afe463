"""Ctrl-C, and runs that end without a word."""

import subprocess
import sys

import pytest
from filelock import FileLock

from costate.experiments.__main__ import main
from costate.experiments.rows import Result, Row, Run
from costate.runs import program

ROW = Row("surface_sgd", ("experiment=surface_sgd",), None, 1)


@pytest.fixture
def ending(monkeypatch):
    """Has a process that does this in place of train.py's."""

    def set_to(code: str) -> None:
        def start(overrides, log):
            with log.open("ab") as file:
                return subprocess.Popen([sys.executable, "-c", f"import os, sys; {code}"], stderr=file)

        monkeypatch.setattr(program, "start", start)

    return set_to


SIGNALLED = "import signal; signal.signal({0}, signal.SIG_DFL); os.kill(os.getpid(), {0})"


@pytest.mark.parametrize("code", ["sys.exit(130)", "sys.exit(143)", SIGNALLED.format(2), SIGNALLED.format(15)])
def test_a_run_that_was_asked_to_stop_has_not_failed(ending, tmp_path, code):
    """Ctrl-C comes to every process of a terminal: train.py says `Interrupted.` and ends with 130."""
    ending(f"print('Interrupted.', file=sys.stderr); {code}")
    run = Run(ROW, 0, tmp_path / "runs")
    with pytest.raises(KeyboardInterrupt):
        run.perform()
    assert run.result() == Result()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("sys.exit('too large')", "too large"),
        ("sys.exit(3)", "it ended with exit code 3"),
        (SIGNALLED.format(9).partition("; ")[0] + "; os.kill(os.getpid(), 9)", "it was ended by SIGKILL"),
    ],
)
def test_a_run_that_has_failed_says_why_as_far_as_that_is_known(ending, tmp_path, code, told):
    ending(code)
    with pytest.raises(ValueError, match=f"^train.py epochs=1: {told}$"):
        program.run(tmp_path / "run", "epochs=1")


def test_after_ctrl_c_the_same_command_repeats_what_was_stopped_and_keeps_the_rest(ending, tmp_path, capsys):
    words = ["surface_sgd", "--seeds", "0", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "RESULTS.md")]
    folder = Run(ROW, 0, tmp_path / "runs").folder
    ending(f"open({str(folder / 'config.yaml')!r}, 'w').close(); sys.exit(130)")
    assert main(words) == 130
    assert "begins the runs again that were stopped, and keeps the others." in capsys.readouterr().err
    assert (folder / "config.yaml").exists()
    summary = '{"test/mse": 0.02, "fit_seconds": 7.0, "versions": {}, "seed": 0}'
    ending(f"open({str(folder / 'summary.json')!r}, 'w').write({summary!r})")
    assert main(words) == 0
    assert not (folder / "config.yaml").exists(), "it began again, in an empty folder"
    ending("sys.exit(1)")
    assert main(words) == 0, "it has ended, and is not run again"


def test_a_run_that_another_process_trains_stays(ending, tmp_path):
    """Two `make experiments` at once removed each other's checkpoints under way."""
    run = Run(ROW, 0, tmp_path / "runs")
    ending("sys.exit('too large')")
    run.perform()
    checkpoint = run.folder / "last.ckpt"
    checkpoint.touch()
    with FileLock(run.folder / "run.lock"), pytest.raises(ValueError, match="is being trained by another process"):
        run.perform()
    assert checkpoint.exists()
    run.perform()
    assert not checkpoint.exists(), "what nobody trains begins again"
