"""Parallel variable distribution (Ferris & Mangasarian, 1994; Solodov, 1997), a network's layers as variables.

A batch is an outer iteration; `costate.pvd` has what happens in one, `outer` and `network_loss` the network's part.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, final

from costate.architectures import Network
from costate.architectures.block import Block
from costate.config.settings import Amount, Count
from costate.interfaces import Exact
from costate.methods.base import Method
from costate.methods.iteration import Iteration, Player
from costate.methods.outer import Outer
from costate.pvd import Distribution, Solver
from costate.pvd.solvers import Adam
from costate.schedules import Event, locked
from costate.tasks import Task
from costate.types import Shape


@final
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

    def __init__(
        self,
        *,
        blocks: Count,
        head: Literal["every", "own"],
        directions: Literal["steepest", "optimizer"],
        forget_me_not: bool,
        solver: Solver,
        synchronisation: Count,
        decrease: Amount,
        outer_batch: Count | None,
        minibatch: Count | None,
        piece: Count,
    ):
        if minibatch is not None and not isinstance(solver, Adam):
            raise ValueError(f"method.minibatch={minibatch} needs method/solver=adam: line searches need one f.")
        if head == "own" and blocks == 1:
            raise ValueError("method.head=own is a block beside the layers: choose method.blocks=2 or more.")
        self.blocks, self.head, self.directions, self.forget_me_not = blocks, head, directions, forget_me_not
        self.distribution = Distribution(solver, synchronisation, decrease)
        self.outer_batch, self.minibatch, self.piece = outer_batch, minibatch, piece

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
            ValueError: the execution has no workers.
        """
        steepest = self.directions == "steepest" if self.forget_me_not else None
        return Outer(player, self.distribution, self.head == "own", steepest, self.minibatch, self.piece)
