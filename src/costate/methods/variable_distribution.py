"""Parallel variable distribution (Ferris & Mangasarian, 1994; Solodov, 1997), a network's layers as variables.

A batch is an outer iteration; `costate.pvd` has what happens in one, `network_loss` a network's f.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import nn

from costate.config.settings import Amount, Count
from costate.core.block import Block, Network, draws
from costate.core.interface import Loss
from costate.core.method import Iteration, Method, Player
from costate.core.schedules import Event, locked
from costate.core.tasks import Task
from costate.core.types import Input, Labels, Shape, State
from costate.methods.backprop import Exact
from costate.methods.network_loss import NetworkLoss
from costate.pvd import Blocks, Distribution, Outcome, Solver, Start
from costate.pvd.objective import Adam


@final
@dataclass(kw_only=True, eq=False)
class VariableDistribution(Method):
    """Gradients are exact; what is done with them is an outer iteration of the algorithm.

    Args:
        blocks: p, the number of blocks of variables, and of workers.
        head: every: the variables of the last layer, which gives the output, belong to every worker, beside its group
            of the others, of which there are p; own: they are a block, beside p − 1 groups of the others.
        directions: d, along which other workers may move a block: steepest descent, or the optimizer's step.
        forget_me_not: whether workers move other blocks at all.
        solver: of the workers' problems.
        synchronisation: steps of L-BFGS.
        decrease: c; a worker's result is taken if f falls by c ‖g‖² or more, g the gradient of its own variables.
        outer_batch: rows of an outer iteration; None: of all training rows.
        minibatch: rows of a step of the solver, which is outside the theory; None: all of the outer batch.
        piece: rows that go through the network at once.

    Raises:
        ValueError: the settings contradict each other.
    """

    blocks: Count
    head: Literal["every", "own"]
    directions: Literal["steepest", "optimizer"]
    forget_me_not: bool
    solver: Solver
    synchronisation: Count
    decrease: Amount
    outer_batch: Count | None
    minibatch: Count | None
    piece: Count

    def __post_init__(self) -> None:
        if self.minibatch is not None and not isinstance(self.solver, Adam):
            raise ValueError(f"method.minibatch={self.minibatch} needs method/solver=adam: line searches need one f.")
        if self.head == "own" and self.blocks == 1:
            raise ValueError("method.head=own is a block beside the layers: choose method.blocks=2 or more.")
        self.distribution = Distribution(self.solver, self.synchronisation, self.decrease)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Exact:
        return Exact()

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return locked(stages, n, lag)

    def cut(self, network: Network, stages: int, balance: Sequence[int] | None = None) -> list[Block]:
        """A stage is a group of layers.

        Raises:
            ValueError: there are not so many layers, or `stages` says otherwise.
        """
        groups = self.blocks - 1 if self.head == "own" else self.blocks
        if stages != groups:
            raise ValueError(
                f"method.blocks={self.blocks} with method.head={self.head} cuts the network into {groups} groups of "
                f"layers, and stages={stages} asks for others: leave stages out."
            )
        if groups > network.layers:
            raise ValueError(
                f"method.blocks={self.blocks} asks for {groups} groups of layers, more than the {network.layers} "
                f"layers that there are: lower it or {network.deepen}."
            )
        return network.cut(groups, balance)

    def rows(self, batch_size: int, most: int) -> int:
        return min(self.outer_batch or most, most)

    def iteration(self, player: Player) -> Iteration:
        """An outer iteration.

        Raises:
            ValueError: the execution has no workers, or the network draws random numbers.
        """
        return Outer(player, self)


@final
class Outer(Iteration):
    """One outer batch, one outer iteration on the weights x, with g = ∇f(x) and the directions d: −g, or the step that
    the optimizer takes from x under g, or none.
    """

    def __init__(self, player: Player, method: VariableDistribution):
        self.team = player.team()
        self.networks = [stage.block for stage in player.stages]
        self.loss = player.stages[-1].interface
        assert isinstance(self.loss, Loss), "a network ends with its loss"
        if any(map(draws, self.networks)):
            raise ValueError(
                "method=pvd asks for the loss of a batch again and again, and dropout would have it another one each "
                "time: set dropout to 0, or choose another method."
            )
        self.method, self.own_head = method, method.head == "own"
        self._report: dict[str, float] = {}

    def gradient(self, n: int, x: Input, y: Labels, ahead: int) -> State:
        self._since = time.perf_counter()
        # Anew for each batch: a network may have become deeper.
        parameters, self.blocks = variables(self.networks, self.own_head)
        piece, minibatch = self.method.piece, self.method.minibatch
        self.f = NetworkLoss(self.networks, parameters, self.loss.task, x, y, piece, self.team.mean, minibatch)
        self._value, output = self.f.backward()
        penalty = self.f.penalty()
        # Losses are logged without penalties, whatever the method.
        self.loss.value = self._value if penalty is None else self._value - penalty.detach()
        self._start = time.perf_counter() - self._since
        return output

    def advance(self, optimizer: torch.optim.Optimizer) -> None:
        since = time.perf_counter()
        f = self.f
        x, g = f.read(), f.gradients()
        value = f.mean(self._value[None]).item()
        optimizer.step()
        # The gradient may have been clipped by now, and directions are made of what is left.
        d = -f.gradients() if self.method.directions == "steepest" else f.read() - x
        start = Start(x, value, g, d if self.method.forget_me_not else None)
        group = optimizer.param_groups[0]
        rate = group["lr"] / group.get("initial_lr", group["lr"])
        self._start += time.perf_counter() - since
        outcome = self.method.distribution.iterate(f, start, self.blocks, self.team, rate)
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
