"""What a method does with a batch: find the gradient, and go on from there."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, final, runtime_checkable

import torch

from costate.pvd import Team
from costate.types import Input, Labels, State


@runtime_checkable
class Player(Protocol):
    """What an iteration needs of an execution."""

    stages: Sequence[Any]

    def step(self, n: int, x: Input, y: Labels, more: bool) -> State | None:
        """Plays the schedule for batch n."""

    def team(self) -> Team:
        """The processes that share out work which is not the stages'."""


class Iteration(ABC):
    """Two parts, with the mean over replicas in between, and with them those who measure gradients."""

    @abstractmethod
    def gradient(self, n: int, x: Input, y: Labels, more: bool) -> State | None:
        """Leaves gradients in `.grad`; returns the network's output where this process has it."""

    @abstractmethod
    def advance(self, optimizer: torch.optim.Optimizer) -> None:
        """Changes the weights; calls the optimizer once, which counts the batch."""

    def report(self) -> dict[str, float]:
        """What the latest batch has come to and cost, by the names under which numbers are logged."""
        return {}


@final
class OptimizerStep(Iteration):
    """Gradients of the schedule, one step of the optimizer."""

    def __init__(self, player: Player):
        self.player = player

    def gradient(self, n: int, x: Input, y: Labels, more: bool) -> State | None:
        return self.player.step(n, x, y, more)

    def advance(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.step()
