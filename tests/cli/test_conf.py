"""Every file of conf/ makes a run whose settings are those of its classes."""

import pytest
from omegaconf import OmegaConf

from composing import CONF, composed, config, options
from costate.config.schema import check
from costate.config.settings import signature

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


@pytest.mark.parametrize(
    "words",
    [
        ("method=sg", "arch=resnet", "arch/form=conv", "data=mnist", "data.batch_size=3", "epochs=7"),
        ("experiment=ellipse", "method=coarse", "+callbacks.alarm.batch=3", "seed=5", "data.seed=${seed}"),
        ("logger=[wandb,tensorboard]", "logger.wandb.tags=[a,b]", "trainer=ddp", "~callbacks"),
    ],
)
def test_what_the_tests_compose_is_what_a_command_composes(words):
    """They compose a product of axes once, and apply the other settings to copies of it."""
    for _ in range(2):
        found, expected = config(*words), composed(*words)
        assert found == expected
        assert OmegaConf.is_struct(found)
    found.seed = 77
    assert config(*words).seed == expected.seed
