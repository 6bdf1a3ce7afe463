"""What a command line makes of conf/, for those who do not run it by train.py. Light: imports no torch."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from costate import jobs, resolvers

CONF = jobs.PROGRAM.parent / "conf"


def composed(*overrides: str) -> DictConfig:
    """The settings that train.py would have with these overrides."""
    resolvers.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))
