"""An outer iteration of parallel variable distribution on a network.

x   weights;  g = ∇f(x)
d   directions: −g, or the step that the optimizer takes from x under g
"""

import time
from collections.abc import Sequence
from typing import final

import torch
from torch import nn

from costate.architectures.block import Block
from costate.interfaces import Loss
from costate.methods.iteration import Iteration, Player
from costate.methods.network_loss import NetworkLoss
from costate.pvd import Blocks, Distribution, Outcome, Start
from costate.types import Input, Labels, State


@final
class Outer(Iteration):
    """One outer batch, one outer iteration.

    Args:
        player: has the network and the team of workers.
        distribution: the algorithm.
        own_head: whether the last layer is a block of its own, rather than every worker's.
        steepest: whether directions are −g, rather than the optimizer's step; None: there are none.
        minibatch: rows of a step of the solver, or None.
        piece: rows that go through the network at once.
    """

    def __init__(
        self,
        player: Player,
        distribution: Distribution,
        own_head: bool,
        steepest: bool | None,
        minibatch: int | None,
        piece: int,
    ):
        self.team = player.team()
        self.networks = [stage.block for stage in player.stages]
        self.loss = player.stages[-1].interface
        assert isinstance(self.loss, Loss), "a network ends with its loss"
        self.distribution, self.own_head, self.steepest = distribution, own_head, steepest
        self.minibatch, self.piece = minibatch, piece
        self._report: dict[str, float] = {}

    def gradient(self, n: int, x: Input, y: Labels, more: bool) -> State:
        self._since = time.perf_counter()
        # Anew for each batch: a network may have become deeper.
        parameters, self.blocks = variables(self.networks, self.own_head)
        self.f = NetworkLoss(
            self.networks, parameters, self.loss.task, x, y, self.piece, self.team.mean, self.minibatch
        )
        self.loss.value, output = self.f.backward()
        self._start = time.perf_counter() - self._since
        return output

    def advance(self, optimizer: torch.optim.Optimizer) -> None:
        since = time.perf_counter()
        f = self.f
        x, g = f.read(), f.gradients()
        value = f.mean(self.loss.value[None]).item()
        optimizer.step()
        # The gradient may have been clipped by now, and directions are made of what is left.
        d = None if self.steepest is None else -f.gradients() if self.steepest else f.read() - x
        group = optimizer.param_groups[0]
        rate = group["lr"] / group.get("initial_lr", group["lr"])
        self._start += time.perf_counter() - since
        outcome = self.distribution.iterate(f, Start(x, value, g, d), self.blocks, self.team, rate)
        f.write(outcome.x)
        f.settle()
        del self.f
        self._report = numbers(outcome, self._start, time.perf_counter() - self._since)

    def report(self) -> dict[str, float]:
        return self._report


def variables(networks: Sequence[Block], own_head: bool) -> tuple[list[nn.Parameter], Blocks]:
    """The parameters, those of the head last, and the blocks that they make up.

    Raises:
        ValueError: a block would be empty.
    """
    head = networks[-1].ending()
    among = {id(p) for p in head}
    groups = [[p for p in network.parameters() if id(p) not in among] for network in networks]
    sizes, rest = [sum(p.numel() for p in group) for group in groups], sum(p.numel() for p in head)
    if own_head and 0 in sizes:
        raise ValueError("method.head=own leaves a group of layers without a layer: lower method.blocks.")
    return [p for group in [*groups, head] for p in group], Blocks([*sizes, rest]) if own_head else Blocks(sizes, rest)


def numbers(outcome: Outcome, start: float, seconds: float) -> dict[str, float]:
    """An outer iteration by the names under which it is logged.

    Args:
        start: seconds that f, its gradient and the directions took.
        seconds: of the whole iteration.
    """
    found = {"f/start": outcome.start, "f/end": outcome.value}
    theoretical = start + outcome.slowest + outcome.synchronisation
    times = {"start": start, "communication": outcome.communication, "synchronisation": outcome.synchronisation}
    times |= {"theoretical": theoretical, "measured": seconds}
    found |= {f"seconds/{name}": value for name, value in times.items()}
    for l, result in enumerate(outcome.results):
        found |= {f"f/worker/{l}": result.value, f"lambda/{l}": outcome.lam[l], f"seconds/worker/{l}": result.seconds}
        found |= {f"mu/{l}/{k}": coefficient for k, coefficient in enumerate(result.mu) if k != l}
    return {f"pvd/{name}": value for name, value in found.items()}
