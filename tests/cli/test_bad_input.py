"""What cannot be is refused in one sentence, before any training, and leaves nothing behind."""

import json
import subprocess
import sys

import pytest
import torch

from costate.architectures.integrators import one_way
from running import QUIET, ROOT, SMALL, command, refusal


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["arch=cnn", "data=ellipse"], "arch=cnn needs images"),
        (["arch/form=conv", "data=ellipse"], "images"),
        (["method=petra", "arch=resnet"], one_way()),
        (["method=petra", "arch=cnn"], one_way()),
        (["stages=17"], "stages=17 is more than the 16 layers"),
        (["arch=mlp", "stages=3"], "stages=3 is more than the 2 layers"),
        (["data=adding"], "These data are sequences, which a recurrent network reads"),
        (["data=copy", "arch=mlp"], "These data are sequences, which a recurrent network reads"),
        (["arch/form=dense", "arch.form.opening=pad", "arch.width=8"], "arch.width=8"),
        (["data.batch_size=5000"], "data.batch_size=5000 is more than"),
        (["trainer.precision=16-mixed"], "use trainer.precision=bf16-mixed"),
        (["method/synthesizer=conv", "data=ellipse"], "method/synthesizer=conv needs images"),
        (["arch.norm=true", "data=ellipse", "data.batch_size=1"], "this batch has one value of each channel"),
        (["arch=mlp", "arch.norm=true", "data=ellipse", "data.batch_size=1"], "this batch has one value of each"),
        (["method/synthesizer=mlp", "data=ellipse", "data.batch_size=1"], "use method/synthesizer=linear"),
        (["seed=4294967296"], "seed must be an integer at least 0 and at most 4294967295, not 4294967296"),
        (["data=mnist", "data.root=nowhere", "data.cache=nothing", "data.download=false"], "data=digits"),
    ],
)
def test_impossible_products_are_refused_before_training(tmp_path, monkeypatch, overrides, sentence):
    monkeypatch.chdir(tmp_path)
    reason = refusal(tmp_path / "run", *overrides, "trainer.progress=none")
    assert sentence in reason
    assert "\n" not in reason
    assert not (tmp_path / "run").exists() or "this batch" in reason, "training has begun"


def test_without_a_home_a_folder_below_it_is_refused(tmp_path, monkeypatch):
    def nobody(user: int) -> None:
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    reason = refusal(tmp_path, "data=mnist", "data.cache='~/.cache/costate'")
    assert reason == (
        "data.cache=~/.cache/costate: there is no home folder here, for HOME is not set: set HOME, or data.cache to a "
        "folder."
    )


def test_half_a_group_of_ranks_is_refused_at_once(tmp_path):
    """It ended in Hydra's complaint about hydra.run.dir."""
    done = command("seed=1", cwd=tmp_path, RANK="0", WORLD_SIZE="2", MASTER_ADDR="localhost")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("RANK and WORLD_SIZE are set, and MASTER_PORT not")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_absent_is_said(tmp_path):
    assert refusal(tmp_path, "trainer=gpu") == "trainer=gpu: torch sees no GPU on this machine; use trainer=cpu."


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "seed=0..2",
            "seed must be an integer at least 0 and at most 4294967295, not '0..2' (several values are a sweep: "
            "-m seed=0,1,... or -m 'seed=range(0,3)').",
        ),
        ("stages=0", "stages must be an integer at least 1, not 0."),
        ("arch.depth=-1", "arch.depth must be an integer at least 1, not -1."),
        ("optimizer.lr=fast", "optimizer.lr must be a number above 0, not 'fast'."),
        ("optimizer.lr=1e400", "optimizer.lr must be a number above 0, not inf."),
        ("arch.activation=tan", "arch.activation must be one of tanh, relu, not 'tan' (did you mean tanh?)."),
        ("+arch.dept=2", "arch.dept: no such setting (did you mean depth?)."),
    ],
)
def test_settings_out_of_bounds_name_the_key(tmp_path, setting, message):
    assert refusal(tmp_path, setting) == message


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["arch=verlt"], "arch=verlt: no such option (did you mean verlet?); there are antisymmetric, "),
        (["arch.dept=3"], "arch.dept: no such setting (did you mean depth?); there are "),
        (["method/synthesizer=liner"], "method/synthesizer=liner: no such option (did you mean linear?); there are "),
        (["epochs=none"], "epochs must be an integer at least 1, not 'none'."),
        (["debug=true"], "debug=true: no such option; there are fast, "),
        (["stages=2", "4"], "4: this cannot be read; settings are written as name=value"),
        (["balance=[1,2"], "balance=[1,2: this cannot be read; settings are written as name=value, lists as"),
        (
            ["hydra.run.dir=a=b"],
            "hydra.run.dir=a=b: this cannot be read; settings are written as name=value, in quotes as ",
        ),
    ],
)
def test_the_command_ends_in_one_sentence_with_code_2(tmp_path, overrides, sentence):
    done = command(*overrides, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "an empty run folder is left"


LIGHT = """
import runpy, sys
sys.argv = {argv}
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    heavy = {{"torch", "lightning", "numpy", "torchvision", "matplotlib"}} & sys.modules.keys()
    print("heavy:", sorted(heavy), file=sys.stderr)
"""


@pytest.mark.parametrize("word", ["--help", "arch=verlt", "arch.depth=0"])
def test_answers_need_no_heavy_import(tmp_path, word):
    code = LIGHT.format(argv=[str(ROOT / "train.py"), word])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "heavy: []"


APP = """
import sys
import hydra
from costate.runs.program import CommandLine

line = CommandLine()

@hydra.main(version_base="1.3", config_path=None)
@line.job
def main(cfg):
    {body}

sys.exit(line.run(main))
"""


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ("pass", 0, ""),
        ("import costate.config.schema; costate.config.schema.check(cfg)", 2, "seed is missing.\n"),
        ("int('x')", 1, "ValueError: invalid literal for int() with base 10: 'x'\n"),
        ("raise RuntimeError('no')", 1, "RuntimeError: no\n"),
        ("raise KeyboardInterrupt", 130, "Interrupted.\n"),
        ("sys.exit(143)", 143, ""),
    ],
)
def test_what_a_user_can_mend_is_a_sentence_and_what_is_a_surprise_has_a_traceback(tmp_path, body, code, told):
    (tmp_path / "app.py").write_text(APP.format(body=body))
    done = subprocess.run([sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert done.stderr.endswith(told)
    assert ("Traceback" in done.stderr) == (code == 1)
    assert "hydra/_internal" not in done.stderr, "frames that are not ours"


def test_a_sweep_goes_on_after_jobs_that_fail_and_ends_with_the_code_of_the_first(tmp_path):
    words = ["-m", *SMALL, "debug=fast", "arch=cnn,verlet", "+callbacks.alarm._target_=alarm.Surprise,alarm.Calm"]
    done = command(*[word for word in words if "width" not in word and "depth" not in word], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("arch=cnn needs images") == 2
    assert done.stderr.count("Traceback") == 1
    assert "warn" not in done.stderr.lower(), "noise that nobody can act on"
    (sweep,) = tmp_path.glob("runs/sweeps/*/*")
    results = [json.loads((sweep / job / "summary.json").read_text()) for job in "0123"]
    assert [result.get("error", "")[:21] for result in results] == ["arch=cnn needs images"] * 2 + [
        "ValueError: invalid l",
        "",
    ]
    assert (sweep / "summary.csv").exists()


def test_a_job_that_fails_in_a_process_of_the_launcher_is_not_forgotten(tmp_path):
    """It used to end with code 0: the failure was noted in the launcher's process, which nobody asked."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    done = command("-m", "hydra/launcher=local", "seed=0", "data=digits", "stages=99", cwd=tmp_path)
    assert done.returncode == 2
    assert "failed: " in done.stdout
    assert "stages=99 is more than" in done.stdout


def test_what_is_refused_in_the_folder_of_a_sweep_that_has_ended_leaves_its_results(tmp_path):
    """A slip in the second command wrote its sentence over the results of every job of the first."""
    words = ("-m", *SMALL, *QUIET, "debug=fast", "hydra.sweep.dir=sweep")
    assert command(*words, cwd=tmp_path).returncode == 0
    kept = {path: path.read_text() for path in tmp_path.glob("sweep/**/summary.*")}
    assert tmp_path / "sweep" / "0" / "summary.json" in kept
    done = command(*words, "arch.depth=-1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "arch.depth must be an integer at least 1, not -1.\n")
    assert {path: path.read_text() for path in kept} == kept
