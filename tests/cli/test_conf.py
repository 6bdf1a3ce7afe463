"""Every file of conf/ makes a run whose settings are those of its classes."""

import pytest

from composing import CONF, config, options
from costate.schema import check
from costate.signatures import signature

AXES = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
FILES = [(axis, option) for axis in AXES for option in options(axis)]
NESTED = [
    (path.parents[1].name, path.parent.name, path.stem)
    for path in sorted(CONF.glob("*/*/*.yaml"))
    if path.parents[1].name != "hydra"
]


@pytest.mark.parametrize(("axis", "option"), FILES)
def test_each_option_of_each_axis_composes_and_checks(axis, option):
    cfg = check(config(f"{axis}={option}"))
    targets = [node["_target_"] for node in cfg.values() if hasattr(node, "keys") and "_target_" in node]
    assert all(signature(target) is not None for target in targets), "a target is not where its file says"


@pytest.mark.parametrize(("axis", "part", "option"), NESTED)
def test_each_option_of_each_nested_axis_composes_and_checks(axis, part, option):
    owner = next(name for name in options(axis) if f"- {part}: " in (CONF / axis / f"{name}.yaml").read_text())
    check(config(f"{axis}={owner}", f"{axis}/{part}={option}"))
