"""A logger that keeps what it is told."""

from typing import Any

from lightning.pytorch.loggers import Logger


class Recorder(Logger):
    """Keeps what is logged: (step, numbers)."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *arguments: Any) -> None: ...

    name = version = None

    def column(self, name: str) -> dict[int, float]:
        return {step: numbers[name] for step, numbers in self.rows if name in numbers}
