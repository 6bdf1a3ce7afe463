"""The learning rate as it is annealed."""

from typing import final

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from costate.callbacks.measurement import Measurement
from costate.config.settings import Count


@final
class LearningRate(Measurement):
    """Logs `learning_rate`, that of the first stage's layers; it is the same on all ranks."""

    def __init__(self, *, every: Count):
        super().__init__(every)

    def measure(self, module: LightningModule) -> dict[str, Tensor]:
        trainer = module.trainer
        if not trainer.is_global_zero:
            return {}
        return {"learning_rate": torch.tensor(trainer.optimizers[0].param_groups[0]["lr"])}
