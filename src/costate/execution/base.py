"""Who plays the schedule of a method."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from costate.execution.clock import Span
from costate.methods import Method
from costate.pvd import Team
from costate.schedules import Event, locked
from costate.stage import Flight, Stage
from costate.types import Input, Labels, State


class Execution(ABC):
    """Plays a method's schedule, event by event, and carries the messages between the stages.

    Attributes:
        stages: in the order of the forward pass; the last one's interface is the loss.
        method: whose schedule is played.
        lag: how many batches late the interfaces learn.
        exact: whether stages train under true gradients, whatever the method, while interfaces learn from them: on the
            coarse levels of a multilevel run.
        gradients: those that have come up and are waited for, (stage in front of the boundary, batch) -> g.
        asked: whether this process was asked to stop.
        stopping: whether all processes stop behind the batch just played, because one was asked to.
        labels: of the batch that `step` has played, where it is not the one that it was given.
    """

    def __init__(self, stages: Sequence[Stage], method: Method, lag: int):
        self.stages, self.method, self.lag = stages, method, lag
        self.gradients: dict[tuple[int, int], torch.Tensor] = {}
        self.asked = self.stopping = False
        self.exact = False
        self.labels: Labels | None = None

    @abstractmethod
    def step(self, n: int, x: Input, y: Labels, more: bool) -> State | None:
        """Batch n: leaves gradients in `.grad`; returns the network's output where this process has the last stage.

        Args:
            more: whether another batch follows at once.
        """

    def connect(self) -> None:  # noqa: B027  (one process has nobody to connect to)
        """Called on every process once, when all are there."""

    def disconnect(self) -> None:  # noqa: B027
        """Called on every process once, when the training has come to its end."""

    @abstractmethod
    def average(self) -> None:
        """Puts the mean over the replicas of this process's stages into `.grad`."""

    def stepped(self) -> None:  # noqa: B027  (of interest where others read the weights)
        """Called when the optimizer has made the step that `average` came before."""

    @abstractmethod
    def gather(self) -> None:
        """Gives every process what the others have trained."""

    @abstractmethod
    def collect(self, rows: list[Any]) -> list[Any]:
        """What each process has measured of the stages that it trains, together."""

    @abstractmethod
    def gather_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Gives every process the optimizer's state of what the others have trained."""

    def team(self) -> Team:
        """Who does the work of the workers of parallel variable distribution.

        Raises:
            ValueError: nobody does here.
        """
        raise ValueError(
            "method=pvd has workers and no stages that run side by side: choose execution=parallel, one worker a "
            "process, or execution=serial, one worker after the other."
        )

    def schedule(self, n: int) -> Iterator[Event]:
        """The operations of all stages for batch n."""
        return (locked if self.exact else self.method.schedule)(len(self.stages), n, self.lag)

    def measure(self) -> dict[str, float]:
        """How busy this process was since it was last asked, by the names under which numbers are logged."""
        return {}

    def account(self) -> dict[str, float]:
        """Totals of the whole run up to the latest `gather`, by the names under which they are kept."""
        return {}

    def timeline(self) -> list[tuple[str, list[Span]]]:
        """What every process has done when, if that was to be remembered; all processes ask together."""
        return []

    def stop(self) -> None:
        """Asks for an end behind a batch that is the same one for all processes; `stopping` says when it has come."""
        self.asked = True

    def heard(self, k: int) -> bool:
        """Whether a gradient that comes up behind stage k is of use to anybody."""
        return k < len(self.stages) - 1 and (self.exact or self.stages[k].interface.listens)

    def state_dict(self) -> dict[str, Any]:
        """The batches that interfaces have still to learn from: without them a resumed run would skip some."""
        return {
            "flights": [{n: (flight.h, flight.y) for n, flight in stage.flights.items()} for stage in self.stages],
            "gradients": dict(self.gradients),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Takes up where `state_dict` left off."""
        for stage, flights in zip(self.stages, state["flights"], strict=True):
            stage.flights = {n: Flight(None, h.to(device), y.to(device)) for n, (h, y) in flights.items()}
        self.gradients = {tuple(key): g.to(device) for key, g in state["gradients"].items()}
