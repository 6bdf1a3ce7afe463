"""Words of a command line: quoted, met with the setting that was meant, and explained by --help."""

import re
import runpy
import shlex

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from composing import CONF, config
from costate.config import guide
from costate.config.words import ELSEWHERE, forced, leaves, override, pasted
from costate.runs.program import crowd
from running import ROOT, command, refusal

NAMES = [
    "runs/2025-01-31/12-00-00",
    "a=b",
    "a,b",
    "it's",
    "two words",
    "[x]",
    "a{b}",
    "?*",
    "#1",
    "~x",
    "a\\b",
    "a\\",
    "${x}",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_any_name_comes_back_from_a_shell_and_from_hydra(name):
    (word,) = shlex.split(pasted("resume", name))
    assert word == override("resume", name)
    value = OverridesParser.create().parse_override(word).value()
    assert OmegaConf.create({"resume": value, "x": "other"}).resume == name


def test_plain_names_stay_plain():
    assert pasted("resume", NAMES[0]) == f"resume={NAMES[0]}"


def test_a_resumed_run_takes_settings_that_its_own_axes_do_not_have():
    """data.root=... was unknown, because without data=mnist the data set is another one."""
    words = ["resume=run", "data.root=new", "epochs=3", "hydra.verbose=true", "+callbacks.x=1", "~callbacks.y"]
    assert forced(words) == ["resume=run", "++data.root=new", *words[2:]]
    assert forced(words[1:]) == words[1:]


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
        (["hydra.run.dir="], "hydra.run.dir= names no folder: give one, as hydra.run.dir=runs/mine, or leave it out."),
        (["-m", "hydra.sweep.dir=''", "seed=0,1"], "hydra.sweep.dir='' names no folder"),
        (["resume="], "resume= names no folder: give one, as resume=runs/mine, or leave it out."),
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
    ("processes", "accelerator", "warned"), [(16, "cpu", True), (4, "cpu", False), (64, "gpu", False)]
)
def test_many_processes_on_few_cores_are_told(monkeypatch, capsys, processes, accelerator, warned):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    crowd(processes, accelerator)
    assert ("16 processes share the 2 cores" in capsys.readouterr().err) == warned


def test_more_processes_than_a_machine_can_hold_are_refused(monkeypatch):
    """64 of them were started on two cores."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with pytest.raises(ValueError, match=r"^17 processes are more than 8 on each of the 2 cores"):
        crowd(17, "cpu")


def test_a_program_that_is_told_hydras_own_flags_hears_no_complaint(tmp_path):
    done = command("--cfg", "job", "--package", "optimizer", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "lr:" in done.stdout


AXES = sorted({path.parent.relative_to(CONF).as_posix() for path in CONF.glob("*/**/*.yaml")})


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    done = command("--help", "method=pvd", "trainer=ddp", cwd=tmp_path_factory.mktemp("help"))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("axis", AXES)
def test_every_option_has_its_line(told, axis):
    files = sorted((CONF / axis).glob("*.yaml"))
    if len(files) == 1:
        return
    assert re.search(rf"^  {axis}: \S.*$", told, re.MULTILINE), f"conf/{axis}: a comment where a defaults list takes it"
    block = " ".join(told.split(f"\n  {axis}: ")[1].split())
    for path in files:
        line = guide.comment(path)
        assert len(line) > 5, f"{path}: no comment that says what it is"
        assert not line.endswith((",", "For example")), f"{path}: the first line of its comment is no sentence"
        assert f" {path.stem} {' '.join(line.split())} " in f"{block} ", path


def test_all_measurements_are_all_but_for_those_that_its_comment_names():
    left = {path.stem for path in (CONF / "callbacks").glob("*.yaml")} - {"all", "default", "none"}
    for name in ("default", "all"):
        left -= set(OmegaConf.load(CONF / "callbacks" / f"{name}.yaml").defaults)
    # One ends the run, one is for one data set.
    assert left - {"early_stopping", "surface_pictures"} == {"peak_memory"}
    assert "peak_memory" in guide.comment(CONF / "callbacks" / "all.yaml")


def test_no_line_is_wider_than_a_terminal_and_no_sentence_is_cut(told):
    assert [line for line in told.splitlines() if len(line) > 80] == []
    assert "of stable networks' layers step along" in told, "the first of two lines of a comment"
    assert "orthogonal matrices (Jordan et al., 2024): what minds late gradients least. nadam" in " ".join(told.split())


def test_settings_of_what_is_chosen_have_their_values_and_comments(told):
    for line in (
        r"seed=0 +weights and the order of batches; data.seed divides or draws the data; 0 is a seed",
        r"method.blocks=2 +p",
        r"method.solver.history=20 +steps that the curvature",
        r"trainer.precision=32-true +bf16-mixed: ",
        r"trainer.devices=2 +processes on each host",
        r"balance=null +their relative sizes",
    ):
        assert re.search(rf" {line}", " ".join(told.split())), line
    assert "\n   * pvd " in told
    assert "\n     sg " in told
    assert "\n   * ddp " in told
    assert "method.conditioned" not in told, "a setting of another method"


def test_it_ends_with_examples_and_says_how_long_things_take(told):
    assert "_target_" not in told
    assert "costate." not in told.replace("python -m costate.", "")
    examples = re.findall(r"^  python train.py(.*?)  ", told, re.MULTILINE)
    assert len(examples) > 5
    for words in examples:
        config(*(word.replace("backprop,sg", "sg").replace("0,1,2", "0") for word in words.split() if word != "-m"))
    assert "How long it takes" in told
