"""--help says what there is to choose from, in the words of conf/ itself."""

import re

import pytest

from composing import CONF, config
from costate.config import guide
from running import command

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
    block = told.split(f"\n  {axis}: ")[1]
    for path in files:
        line = guide.comment(path)
        assert len(line) > 5, f"{path}: no comment that says what it is"
        assert not line.endswith((",", "For example")), f"{path}: the first line of its comment is no sentence"
        assert re.search(rf"^   [* ] {path.stem} +{re.escape(line)}$", block, re.MULTILINE), path


def test_settings_of_what_is_chosen_have_their_values_and_comments(told):
    for line in (
        r"seed=0 +weights, shuffling and generated data; 0 is a seed",
        r"method.blocks=2 +p",
        r"method.solver.history=20 +steps that the curvature",
        r"trainer.precision=32-true +bf16-mixed: ",
        r"trainer.devices=2 +processes on each host",
        r"balance=null +their relative sizes",
    ):
        assert re.search(rf"^  {line}", told, re.MULTILINE), line
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
