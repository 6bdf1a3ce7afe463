"""Wrong words are met with the setting that was meant."""

import runpy

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from composing import config
from costate.config.words import ELSEWHERE, leaves
from costate.runs.program import crowd
from running import ROOT, command, refusal


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--arch", "verlet"], "--arch: settings are written without hyphens, as arch=verlet."),
        (["--max-epochs=3"], "--max-epochs=3: settings are written without hyphens, as epochs=3."),
        (["arch", "verlet"], "arch: settings are written as arch=value; "),
        (["lr=0.1"], "lr: no such setting (did you mean optimizer.lr?); there are "),
        (["trainer.max_epochs=2"], "trainer.max_epochs: no such setting (did you mean epochs?); there are "),
        (["batch_size=3"], "batch_size: no such setting (did you mean data.batch_size?); there are "),
        (["levles=double"], "levles: no such setting (did you mean levels?); there are "),
        (["callbacks=[default,trafic]"], "callbacks=trafic: no such option (did you mean traffic?); there are all, "),
        (["method=none", "method.compress=sign"], "method.compress: no such setting; there is none.\n"),
        (["arch=leapfrog,verlet"], "arch=leapfrog,verlet: several values are a sweep, which python train.py -m "),
        (["trainer=ddp", "execution=pipeline"], "trainer=ddp execution=pipeline: ranks of ddp hold the whole network"),
    ],
)
def test_a_sentence_names_what_was_meant(tmp_path, monkeypatch, capsys, words, sentence):
    """In this process: what is refused in composing needs no other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(ROOT / "train.py"), *words])
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    # The command sets it, for Hydra to hand errors on.
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    GlobalHydra.instance().clear()
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    assert told.err.startswith(sentence)
    assert told.err.count("\n") == 1


def test_a_precision_is_proposed_by_its_beginning(tmp_path):
    assert refusal(tmp_path, "trainer.precision=bf16").endswith("not 'bf16' (did you mean bf16-mixed?).")


def test_what_is_proposed_is_there():
    known = leaves(config())
    for name, here in ELSEWHERE.items():
        assert here in known or any(key.startswith(f"{here}.") for key in known), name


@pytest.mark.parametrize(
    ("processes", "accelerator", "warned"), [(64, "cpu", True), (2, "cpu", False), (64, "gpu", False)]
)
def test_many_processes_on_few_cores_are_told(monkeypatch, capsys, processes, accelerator, warned):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    crowd(processes, accelerator)
    assert ("64 processes share the 2 cores" in capsys.readouterr().err) == warned


def test_a_program_that_is_told_hydras_own_flags_hears_no_complaint(tmp_path):
    done = command("--cfg", "job", "--package", "optimizer", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "lr:" in done.stdout
