"""W&B with one row of history a batch."""

from typing import Any, final

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only


@final
class OneRow(WandbLogger):
    """What several callbacks measure on a batch waits for the first number of another batch, or for the end."""

    def __init__(self, experiment: Any, project: str):
        super().__init__(experiment=experiment, project=project)
        self._row: dict[str, Any] = {}
        self._batch: int | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if step != self._batch:
            self._write()
        self._batch = step
        self._row |= metrics

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._write()
        super().finalize(status)

    def _write(self) -> None:
        row, self._row = self._row, {}
        if row:
            super().log_metrics(row, self._batch)
