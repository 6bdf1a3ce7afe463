"""How busy the ranks of a run are, where each has a role of its own."""

from typing import Any, final

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from costate.callbacks.measurement import Measurement
from costate.settings import Count


@final
class Traffic(Measurement):
    """Of each stage that has a process of its own, as `stage/<k>/...`, since the measurement before.

    `busy` is the share of the time in which it did not wait for others, `stall_ms` its waiting a batch, `queue` the
    number of its batches that wait for their gradients, `staleness` how many batches late a gradient is learnt from. An
    asynchronous role says what `Asynchronous.measure` lists.
    """

    def __init__(self, *, every: Count):
        super().__init__(every)

    def measure(self, module: LightningModule) -> dict[str, Tensor]:
        training: Any = module
        return {name: torch.tensor(value) for name, value in training.execution.measure().items()}
