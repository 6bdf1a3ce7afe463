"""Parts as a run would make them: composed from conf/, with overrides, and instantiated."""

from typing import Any

from hydra.utils import instantiate

from costate.configuration import CONF
from costate.configuration import composed as config


def options(axis: str) -> list[str]:
    """The names of the files of an axis of conf/."""
    names = sorted(path.stem for path in (CONF / axis).glob("*.yaml"))
    assert names, f"conf/{axis} is empty"
    return names


def network(shape: tuple[int, ...], outputs: int, *overrides: str) -> Any:
    return instantiate(config(*overrides).arch, shape, outputs, _convert_="all")


def method(*overrides: str) -> Any:
    return instantiate(config(*overrides).method, _convert_="all")
