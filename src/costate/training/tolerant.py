"""A logger whose service may fail: the run goes on, and metrics.csv has everything."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from lightning.pytorch.loggers import Logger

from costate.training.pictures import show


@final
class Tolerant(Logger):
    """Hands on to another logger until that fails, warns once, and is silent from then on.

    Args:
        called: how users know it.
        leave: called when it has failed, so that nobody else asks the service.
    """

    def __init__(self, logger: Logger, called: str, leave: Callable[[], None] = lambda: None):
        super().__init__()
        self.logger, self.called, self.leave = logger, called, leave
        self.failed = False
        self._names = logger.name, logger.version, logger.save_dir

    @property
    def name(self) -> str | None:
        return self._names[0]

    @property
    def version(self) -> int | str | None:
        return self._names[1]

    @property
    def save_dir(self) -> str | None:
        return self._names[2]

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self._try(self.logger.log_metrics, metrics, step)

    def log_hyperparams(self, params: Any, *arguments: Any) -> None:
        self._try(self.logger.log_hyperparams, params, *arguments)

    def log_picture(self, name: str, picture: Path, step: int) -> None:
        self._try(show, self.logger, name, picture, step)

    def save(self) -> None:
        self._try(self.logger.save)

    def finalize(self, status: str) -> None:
        self._try(self.logger.finalize, status)

    def _try(self, action: Callable[..., None], *arguments: Any) -> None:
        if self.failed:
            return
        try:
            action(*arguments)
        except Exception as fault:  # whatever a service's client raises, the training is worth more
            self.failed = True
            told = f"{self.called} has failed ({fault}): the run goes on with metrics.csv alone."
            print(told, file=sys.stderr, flush=True)
            self.leave()
