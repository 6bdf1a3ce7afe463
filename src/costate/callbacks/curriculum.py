"""Sequences that become longer, one step of the data's own measure whenever those that there are have been solved.

b ← 0.9 b + 0.1 (bits of the latest batch, a symbol that is asked for);   solved: b < threshold
"""

import math
from typing import Any, final

from lightning.pytorch import Callback, LightningModule, Trainer

from costate.config.settings import Rate
from costate.core.tasks import SILENT

AVERAGED = 10
"""Batches that b remembers."""


@final
class Curriculum(Callback):
    """Raises the data's `length`, and logs `solved`, the greatest one that has been solved, and `length_bits`, b.

    Args:
        threshold: bits (Jaderberg et al., 2017: 0.15).
    """

    def __init__(self, *, threshold: Rate):
        self.threshold, self.solved, self.bits = threshold, 0, math.inf

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        training: Any = pl_module
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        symbols = (batch[1] != SILENT).sum().item() / len(batch[1])
        bits = training.stages[-1].interface.value.item() / symbols / math.log(2)
        self.bits = bits if self.bits == math.inf else self.bits + (bits - self.bits) / AVERAGED
        if self.bits < self.threshold:
            self.solved, self.bits = data.length, math.inf
            data.length = min(data.length + 1, data.longest)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log_dict({"solved": float(self.solved), "length_bits": min(self.bits, 99.0)}, prog_bar=True)

    def state_dict(self) -> dict[str, Any]:
        return {"solved": self.solved, "bits": self.bits}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.solved, self.bits = state_dict["solved"], state_dict["bits"]
