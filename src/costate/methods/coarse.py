"""A coarse copy of what is behind a boundary, asked for the gradient there: stages, or spans of steps, update at once.

    Φ̄_j  coarse copy of stage j (`core.copies`), of the last one with the head
    ĝ = ∂ℓ(Φ̄_{K−1}(... Φ̄_{k+1}(h)), y)/∂h              at the boundary behind stage k

No target is a guess of somebody else's, so no error adds up from boundary to boundary. With δ = 0 nothing is learnt,
and at a fixed factor the error of ĝ falls like the time step; δ is learnt where the fine stage is at hand. "Predict
globally, correct locally" (Parpas & Muir, 1902.02542), with the coarse network for a synthesizer.

Between spans of a recurrent network what is behind is the same network, at the steps to come, whose inputs are in the
batch: a coarse copy of it makes several steps at once. It has today's weights, and nothing travels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from costate.architectures.recurrent import recurrence
from costate.config.settings import Count, Rate, Size
from costate.core.block import Block, Coarsening, Network
from costate.core.copies import CopiedBlocks, Copies, Likeness
from costate.core.interface import Interface
from costate.core.method import Method
from costate.core.tasks import Task
from costate.core.types import Labels, Shape, State


class Coarse(Interface):
    """Answers the gradient of the loss behind copies, whose weights come up the boundaries now and then.

    Args:
        behind: the blocks of the stages behind, which are copied.
        rule: how coarse.
        near: of how many stages right behind all layers are copied.

    Raises:
        ValueError: their layers are no time steps, and the factor is not 1.
    """

    def __init__(self, behind: Sequence[Block], task: Task, rule: Coarsening, near: int = 0):
        super().__init__()
        self.task = task
        self.copies = CopiedBlocks(behind, rule, near)

    def gradient(self, h: State, y: Labels, arrived: Tensor | None, n: int) -> Tensor:
        end = h.detach().requires_grad_()
        return torch.autograd.grad(self.task.loss(self.copies(end), y), end)[0]


@final
class CoarseSteps(Interface):
    """Answers between two spans the gradient of the loss of all steps of the batch behind, so many made at once."""

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def gradient(self, h: State, y: Labels, arrived: Tensor | None, n: int) -> Tensor:
        raise AssertionError("it looks ahead")

    def ahead(self, s: State, loss: Callable[[State, int], Tensor]) -> State:
        """g at s, a state; the loss is that behind another state at its place, in steps of so many."""
        end = s.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(loss(end, self.factor), end)[0]


@dataclass(kw_only=True, eq=False)
class CoarseCopies(Method):
    """Coarse interfaces, decoupled schedule.

    Args:
        factor: layers, or steps of a recurrent network, that become one, at most; 1 copies all that is behind, of
            networks without time steps, too.
        step: the longest time step that they may make up: with a longer one a copy is no likeness.
        refresh: batches from a copy to the next one, or a share of the run's; 1 and factor=1 are backpropagation.
        travel: batches from the making of a copy to its use, as far as the next one has not been made by then.
        near: stages right behind of which all layers are copied: what is far may be coarse.
        tune: batches from one step to the next by which a stage makes its copy more like itself; 0: none.
        inputs: whether a stage takes its input as it comes from the stage in front, or makes it itself, of the samples
            by coarse copies of the stages in front: then no state travels, and all stages work on a batch at once.

    Raises:
        ValueError: batches from a copy to the next are no whole number.
    """

    sent = None
    in_time = True
    factor: Count
    step: Rate
    refresh: Rate
    travel: Size
    tune: Size
    near: Size = 0
    inputs: Literal["received", "coarse"] = "received"

    def __post_init__(self) -> None:
        if self.refresh > 1 and self.refresh % 1:
            raise ValueError(
                f"method.refresh={self.refresh:g}: a number of batches is whole; below 1 it is a share of the run's."
            )
        self.rule = Coarsening(self.factor, self.step)
        self.copies = Copies(self.refresh, self.travel, self.tune if self.factor > 1 else 0, self.near)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Coarse:
        return Coarse(behind, task, self.rule, self.near)

    def between_spans(self, size: int, task: Task, step: float | None) -> CoarseSteps:
        if step is None and self.factor > 1:
            raise ValueError(
                f"method.factor={self.factor} makes one step of several, and the steps of this network solve no "
                "equation: choose arch=antisymmetric_rnn, or method.factor=1."
            )
        return CoarseSteps(self.factor if step is None else min(self.factor, max(1, int(self.step / step + 1e-9))))

    def cut(self, network: Network, stages: int, balance: Sequence[int] | None = None) -> list[Block]:
        if stages > 1 and recurrence(network.block) is not None:
            raise ValueError(
                f"method=coarse follows a state through the whole network to the last step, and stages={stages} cut "
                "this recurrent one in depth: choose stages=1, or method=sg."
            )
        return network.cut(stages, balance)

    def likeness(self, block: Block, first: bool) -> Likeness | None:
        return None if first and self.inputs == "received" else Likeness(block, self.rule)

    def front(self, blocks: Sequence[Block]) -> CopiedBlocks | None:
        return CopiedBlocks(blocks, self.rule) if self.inputs == "coarse" else None
