"""A batch in pieces, one after the other: the memory of a piece, the step of the whole.

g = Σ_i g_i / m        g_i: gradient of the mean loss of piece i, of m equal ones
"""

from typing import final

import torch
from torch import Tensor

from costate.interfaces import Loss
from costate.methods.iteration import Iteration, Player
from costate.types import Input, Labels, State


@final
class Accumulation(Iteration):
    """Plays the schedule for each piece; to the stages it is a batch.

    Args:
        pieces: m.
    """

    def __init__(self, player: Player, pieces: int):
        self.player, self.pieces = player, pieces

    def gradient(self, n: int, x: Input, y: Labels, more: bool) -> State | None:
        """The mean over the pieces.

        Raises:
            ValueError: the batch cannot be cut into equal pieces.
        """
        m, loss = self.pieces, self.player.stages[-1].interface
        assert isinstance(loss, Loss), "a network ends with its loss"
        if len(x) % m:
            raise ValueError(f"method.accumulate={m} does not divide the {len(x)} rows of a process's batch.")
        outputs: list[Tensor | None] = []
        losses = []
        for i, (rows, labels) in enumerate(zip(x.chunk(m), y.chunk(m), strict=True)):
            outputs.append(self.player.step(n * m + i, rows, labels, more or i < m - 1))
            losses.append(loss.value)
        for stage in self.player.stages:
            for p in stage.parameters():
                if p.grad is not None:
                    p.grad /= m
        loss.value = torch.stack(losses).mean()
        found = [output for output in outputs if output is not None]
        return torch.cat(found) if found else None

    def advance(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.step()
