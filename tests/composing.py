"""Parts as a run would make them: composed from conf/, with overrides, and instantiated."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from costate import resolvers

CONF = Path(__file__).parents[1] / "conf"
resolvers.register()


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


def options(axis: str) -> list[str]:
    """The names of the files of an axis of conf/."""
    names = sorted(path.stem for path in (CONF / axis).glob("*.yaml"))
    assert names, f"conf/{axis} is empty"
    return names


def network(shape: tuple[int, ...], outputs: int, *overrides: str) -> Any:
    return instantiate(config(*overrides).arch, shape, outputs, _convert_="all")


def method(*overrides: str) -> Any:
    return instantiate(config(*overrides).method, _convert_="all")
