"""How late gradients are, and how busy the ranks of a run, where each has a role of its own."""

from typing import Any, final

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from costate.callbacks.measurement import Measurement
from costate.config.settings import Count


@final
class Traffic(Measurement):
    """Of each stage, as `stage/<k>/...`: `staleness`, by how many batches a gradient is late that it learns from.

    And of each one that has a process of its own, since the measurement before: `busy`, the share of the time in which
    it did not wait for others, `stall_ms`, its waiting a batch, `queue`, the number of batches that wait for gradients.
    An asynchronous role says what `Asynchronous.measure` lists.
    """

    def __init__(self, *, every: Count):
        super().__init__(every)

    def measure(self, module: LightningModule) -> dict[str, Tensor]:
        training: Any = module
        return {name: torch.tensor(value) for name, value in training.execution.measure().items()}
