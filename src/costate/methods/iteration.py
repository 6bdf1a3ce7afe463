"""What a method does with a batch: find the gradient, and go on from there."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from costate.pvd import Team
from costate.types import Input, Labels, State


@runtime_checkable
class Player(Protocol):
    """What an iteration needs of an execution."""

    stages: Sequence[Any]

    def step(self, n: int, x: Input, y: Labels, more: bool) -> State | None:
        """Plays the schedule for batch n."""

    def collect(self, rows: list[Any]) -> list[Any]:
        """What each process has, together."""

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

    def abandon(self) -> None:  # noqa: B027  (most keep nothing)
        """Forgets what is kept from one batch to the next: it is another network's."""

    def state_dict(self) -> dict[str, Any]:
        """What is kept from one batch to the next; all processes ask together."""
        return {}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:  # noqa: B027
        """Takes up where `state_dict` left off."""

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


@final
class AccumulatedStep(Iteration):
    """A step of the optimizer every a batches, under the mean of their gradients:

        θ ← step(θ, Σ g_m / a)        m: the a batches since the last step

    A gradient that is d batches late then is ⌈d / a⌉ updates late at most. On the other batches the optimizer is called
    without gradients, which counts them and moves nothing (Rivaud et al., 2025; Huang et al., 2019).

    Args:
        batches: a.

    Attributes:
        sums: (stage, parameter) -> Σ g_m / a so far.
    """

    def __init__(self, player: Player, batches: int):
        self.player, self.batches, self.n = player, batches, 0
        self.sums: dict[tuple[int, str], Tensor] = {}

    def gradient(self, n: int, x: Input, y: Labels, more: bool) -> State | None:
        self.n = n
        return self.player.step(n, x, y, more)

    def advance(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = {
            (k, name): p for k, stage in enumerate(self.player.stages) for name, p in stage.named_parameters()
        }
        for key, p in parameters.items():
            if p.grad is None:
                # Of a stage that another process trains, out of a checkpoint.
                self.sums.pop(key, None)
                continue
            share = p.grad / self.batches
            self.sums[key] = self.sums[key] + share if key in self.sums else share
        due = (self.n + 1) % self.batches == 0
        for key, p in parameters.items():
            p.grad = self.sums.pop(key, None) if due else None
        optimizer.step()

    def abandon(self) -> None:
        self.sums = {}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.player.collect(list(self.sums.items())))}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.sums = {tuple(key): part.to(device) for key, part in state.get("sums", {}).items()}


def step_every(batches: int, player: Player) -> Iteration:
    """A step of the optimizer every so many batches."""
    return OptimizerStep(player) if batches == 1 else AccumulatedStep(player, batches)
