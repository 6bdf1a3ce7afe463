"""Parts as a run would make them: composed from conf/, with overrides, and instantiated."""

import copy
import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from costate.config import CONF
from costate.config.composing import composed
from costate.core.method import Player
from costate.runs.program import cause

PRODUCTS: dict[tuple[str, ...], DictConfig] = {}
"""What was composed before, by the choices."""


def config(*overrides: str) -> DictConfig:
    """What `composed` makes of them: each product of axes once, and then the settings, in the way that Hydra has.

    Composing takes a quarter of a second, and the tests do it some thousand times.
    """
    choices = tuple(word for word in overrides if (CONF / word.partition("=")[0]).is_dir())
    if choices not in PRODUCTS:
        PRODUCTS[choices] = composed(*choices)
    cfg = copy.deepcopy(PRODUCTS[choices])
    ConfigLoaderImpl._apply_overrides_to_config([_parsed(word) for word in overrides if word not in choices], cfg)
    return cfg


@functools.cache
def _parsed(word: str) -> Override:
    return OverridesParser.create().parse_override(word)


def options(axis: str) -> list[str]:
    """The names of the files of an axis of conf/."""
    names = sorted(path.stem for path in (CONF / axis).glob("*.yaml"))
    assert names, f"conf/{axis} is empty"
    return names


def words(axis: str, option: str) -> list[str]:
    """What chooses a member of an axis, with what a line `# Tests use: setting=value ...` of its file adds."""
    told = re.search(r"^# Tests use: (.*)$", (CONF / axis / f"{option}.yaml").read_text(), re.MULTILINE)
    return [f"{axis}={option}", *(told[1].split() if told else [])]


def network(shape: tuple[int, ...], outputs: int, *overrides: str) -> Any:
    return instantiate(config(*overrides).arch, shape, outputs, _convert_="all")


def method(*overrides: str) -> Any:
    return instantiate(config(*overrides).method, _convert_="all")


def refusal(build: Callable[[], Any]) -> str:
    """The sentence of the ValueError that building ends in, out of Hydra's wrapping."""
    with pytest.raises((ValueError, InstantiationException)) as caught:
        build()
    error = cause(caught.value)
    assert isinstance(error, ValueError)
    return str(error)


class Nobody(Player):
    """Plays nothing, and has no workers: all that can be asked is what a method would do with it."""

    stages = ()

    def team(self) -> Any:
        raise ValueError("nobody works")


def scheduled(rule: Any) -> bool:
    """Whether a method steps on the gradients of a schedule, which a pipeline can play; the others want workers."""
    try:
        rule.iteration(Nobody())
    except ValueError:
        return False
    return True
