"""The check of settings, of those of conf/ and of what users may give; and the functions that conf/ calls."""

import sys
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from composing import CONF, composed, config, options
from costate.config.schema import SettingError, check
from costate.config.settings import signature

BASE = """
from typing import Literal

Colour = Literal["red", "green"]

class Base:
    def __init__(self, shape, *, rate: Rate):
        pass
"""

PARTS = """
import a_heavy_library_that_is_not_there
from costate.config.settings import Count, Share
from toy_lab.base import Base, Colour

class Part:
    def __init__(self, shape, outputs: int, *, depth: Count, name: str, flag: bool, colour: Colour, inner: "Heavy",
                 share: Share | None, sizes: list[Count], size: Count | Literal["auto"], calm: float = 1.0):
        pass

class Heir(Base):
    pass

class Inner:
    def __init__(self, *, width: Count):
        pass

def function(data, *, count: int):
    pass

@dataclass(kw_only=True)
class Fields(Base):
    kept: ClassVar[str] = "x"
    kind: Colour

class Open:
    def __init__(self, weight: float = 1.0, **rest):
        pass
"""

GOOD: dict[str, Any] = {
    "_target_": "toy_lab.parts.Part",
    "depth": 3,
    "name": "x",
    "flag": True,
    "colour": "red",
    "inner": {"_target_": "toy_lab.parts.Inner", "width": 2},
    "share": None,
    "sizes": [1, 2],
    "size": "auto",
}


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch):
    """A package that no import could load."""
    package = tmp_path / "toy_lab"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text(BASE)
    (package / "parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)


@cache
def base() -> DictConfig:
    # A rate of its own: the default one asks the data set for the size of its batches.
    return config("optimizer.lr=0.001")


def checked(**changes: Any) -> DictConfig:
    """A run whose data set is the toy part, with some of its settings changed."""
    cfg = deepcopy(base())
    values = {key: value for key, value in {**GOOD, **changes}.items() if value != "left out"}
    OmegaConf.update(cfg, "data", values, merge=False)
    return check(cfg)


def test_good_settings_pass_and_nothing_is_imported():
    before = set(sys.modules)
    assert checked().data == GOOD
    assert "toy_lab" not in set(sys.modules) - before


@pytest.mark.parametrize(
    ("changes", "converted"),
    [
        ({"depth": "7"}, {"depth": 7}),
        ({"share": 1}, {"share": 1.0}),
        ({"flag": "yes"}, {"flag": True}),
        ({"name": 3}, {"name": "3"}),
        ({"size": 4}, {"size": 4}),
        ({"calm": "1e-3"}, {"calm": 1e-3}),
    ],
)
def test_values_are_converted(changes, converted):
    data = checked(**changes).data
    assert {key: (data[key], type(data[key])) for key in converted} == {k: (v, type(v)) for k, v in converted.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dept": 3}, "data.dept: no such setting (did you mean depth?)."),
        ({"shape": 3}, "data.shape: no such setting"),
        ({"depth": "left out"}, "data.depth is missing."),
        ({"depth": 0}, "data.depth must be an integer at least 1, not 0."),
        ({"depth": 1.5}, "data.depth must be an integer at least 1, not 1.5."),
        ({"depth": None}, "data.depth must be an integer at least 1, not null."),
        ({"depth": True}, "data.depth must be an integer at least 1, not True."),
        ({"share": "fast"}, "data.share must be a number at least 0 and at most 1 or null, not 'fast'."),
        ({"share": 1.1}, "data.share must be a number at least 0 and at most 1 or null, not 1.1."),
        ({"share": float("nan")}, "data.share must be a number at least 0 and at most 1 or null, not nan."),
        ({"colour": "gren"}, "data.colour must be one of red, green, not 'gren' (did you mean green?)."),
        ({"flag": "perhaps"}, "data.flag must be true or false, not 'perhaps'."),
        ({"sizes": [1, 0]}, "data.sizes must be a list (each item an integer at least 1), not [1, 0]."),
        ({"sizes": 1}, "data.sizes must be a list (each item an integer at least 1), not 1."),
        ({"size": "aut"}, "data.size must be an integer at least 1 or one of auto, not 'aut' (did you mean auto?)."),
        ({"inner": {"_target_": "toy_lab.parts.Inner", "widht": 2}}, "data.inner.widht: no such setting"),
        ({"inner": {"_target_": "toy_lab.parts.Inner", "width": -1}}, "data.inner.width must be an integer at least 1"),
        ({"inner": [{"_target_": "toy_lab.parts.Inner"}]}, "data.inner.0.width is missing."),
    ],
)
def test_bad_settings_are_refused_in_one_sentence_that_names_the_key(changes, message):
    with pytest.raises(SettingError) as error:
        checked(**changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        ("toy_lab.parts.Heir", {"rate"}),
        ("toy_lab.parts.function", {"count"}),
        ("toy_lab.parts.Open", {"weight"}),
        ("toy_lab.parts.Base", {"rate"}),
        ("toy_lab.parts.Fields", {"rate", "kind"}),
    ],
)
def test_constructors_may_be_inherited_and_targets_may_be_functions(target, settings):
    found = signature(target)
    assert set(found.settings) == settings
    assert found.open == (target == "toy_lab.parts.Open")


def test_what_a_librarys_callback_asks_for_by_place_is_a_setting():
    """Lightning's EarlyStopping has `monitor` there: "no such setting", and without it a TypeError behind the data."""
    cfg = deepcopy(base())
    OmegaConf.update(cfg, "callbacks.own", {"_target_": "toy_lab.parts.Heir", "shape": 3, "rate": 1}, force_add=True)
    assert check(cfg).callbacks.own == {"_target_": "toy_lab.parts.Heir", "shape": 3, "rate": 1.0}
    del cfg.callbacks.own.shape
    with pytest.raises(SettingError, match=r"^callbacks\.own\.shape is missing\.$"):
        check(cfg)


@pytest.mark.parametrize("target", ["toy_lab.parts.Absent", "toy_lab.absent.Part", "no_such_package.Part", "Part"])
def test_what_is_not_found_in_source_is_left_alone(target):
    assert signature(target) is None
    assert checked(inner={"_target_": target, "anything": 1}).data.inner.anything == 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", -1, "seed must be an integer at least 0 and at most 4294967295, not -1."),
        ("stages", 0, "stages must be an integer at least 1, not 0."),
        ("clip", 0, "clip must be a number above 0 or null, not 0."),
        ("epoch", 3, "epoch: no such setting (did you mean epochs?)."),
        ("epochs", "${nowhere}", "epochs: Interpolation key 'nowhere' not found."),
        ("epochs", "???", "epochs: Missing mandatory value: epochs."),
    ],
)
def test_settings_of_the_run_itself_are_checked_too(key, value, message):
    cfg = deepcopy(base())
    OmegaConf.update(cfg, key, value, force_add=True)
    with pytest.raises(SettingError) as error:
        check(cfg)
    assert str(error.value) == message


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


def test_the_rate_grows_with_the_root_of_the_batch():
    rates = {batch: config(f"data.batch_size={batch}").optimizer.lr for batch in (32, 128, 512)}
    assert rates == pytest.approx({32: 0.001, 128: 0.002, 512: 0.004})
    late = config("data.batch_size=128", "method=delayed", "method.accumulate=4")
    assert late.optimizer.lr == rates[512], "of the rows that are stepped on together"
    assert config("data.batch_size=512", "optimizer.lr=0.1").optimizer.lr == 0.1


@pytest.mark.parametrize(("net", "stages"), [("mlp arch.widths=[8,8,8]", 4), ("cnn arch.filters=[4]", 2)])
def test_a_boundary_after_each_layer_whatever_the_network(net, stages):
    words = [f"arch={net.split()[0]}", net.split()[1]]
    assert config(f"experiment=dni_{words[0].partition('=')[2]}", *words).stages == stages


def test_a_pipeline_has_a_process_for_each_stage_of_each_replica():
    assert config("execution=pipeline", "stages=3", "execution.replicas=2").trainer.devices == 6
