"""What the stages of a run in one process would take side by side.

W_k  seconds of stage k's own operations, forward, update and learn, in the batches in which no stage waits
L    seconds of all stages in the others, as under the backward lock

    series = L + Σ_k W_k        theoretical = L + max_k W_k
"""

from collections import Counter
from typing import Any, final

from lightning.pytorch import Callback, LightningModule, Trainer


@final
class ParallelTime(Callback):
    """Logs `series_seconds` and `theoretical_seconds` of the whole fit, that of the slowest stage.

    Both are without the optimizer's steps, data and validation, and on a CPU alone: on a GPU operations run behind the
    program. A resumed run goes on counting.
    """

    def __init__(self) -> None:
        self.before: dict[str, float] = {}
        self.execution: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        training: Any = pl_module
        self.execution = training.execution

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        work = self._work()
        if work and pl_module.device.type == "cpu":
            locked = work.pop("locked", 0.0)
            times = {"series_seconds": sum(work.values()), "theoretical_seconds": max(work.values(), default=0.0)}
            pl_module.log_dict({name: locked + seconds for name, seconds in times.items()})

    def state_dict(self) -> dict[str, Any]:
        return {"work": self._work()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = state_dict["work"]

    def _work(self) -> dict[str, float]:
        return dict(Counter(self.before) + Counter(self.execution.work()))
