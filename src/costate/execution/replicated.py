"""Every process holds the whole network, and is a replica of the others."""

from abc import ABC
from typing import Any

import torch

from costate.execution.base import Execution
from costate.execution.replicas import alone, any_rank, average_gradients


class Replicated(Execution, ABC):
    """Replicas share out the rows of each batch, and average their gradients."""

    def average(self) -> None:
        if alone():
            self.stopping = self.asked
            return
        parameters = [p for stage in self.stages for p in stage.parameters()]
        average_gradients(parameters)
        self.stopping = any_rank(self.asked, parameters[0].device)

    def gather(self) -> None:
        """Replicas are equal."""

    def collect(self, rows: list[Any]) -> list[Any]:
        return rows

    def gather_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Replicas are equal."""
