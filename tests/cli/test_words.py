"""Words that are printed to be pasted, and words that Hydra takes."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from costate.config.words import forced, override, pasted

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
