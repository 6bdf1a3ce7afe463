"""The baselines: what comes back is the true gradient, the output's error by a fixed random map, or nothing."""

from collections.abc import Iterator, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from costate.config.settings import Count, Share
from costate.core.block import Block
from costate.core.interface import Interface, Loss
from costate.core.method import Iteration, Method, OptimizerStep, Player
from costate.core.post import OutputError
from costate.core.schedules import Event, locked
from costate.core.stage import Graph, Memory
from costate.core.tasks import Task
from costate.core.types import Input, Labels, Shape, State
from costate.methods.compression import Compress, compressed
from costate.methods.memories import Checkpoint


class Exact(Interface):
    """Backpropagation hands on the gradient that arrived: g = ∂ℓ/∂h."""

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        assert arrived is not None, "an exact interface needs a schedule that waits for the gradient"
        return arrived


@final
class Backprop(Method):
    """Exact interfaces, locked schedule: autograd, cut in stages.

    Args:
        checkpoint: whether stages keep their inputs alone and run their forward passes again for the backward ones.
        accumulate: pieces of a batch that are run one after the other, for one step on all of it.
        compress: what is sent of a gradient: all of it, signs with one size a sample, or its largest entries.
        share: of the entries, where the largest are sent.
    """

    def __init__(
        self, *, checkpoint: bool = False, accumulate: Count = 1, compress: Compress = "none", share: Share = 1.0
    ):
        self.checkpoint, self.accumulate = checkpoint, accumulate
        self.in_time = not checkpoint and accumulate == 1
        self.sent = compressed(compress, share)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Exact:
        return Exact()

    def memory(self, block: Block, behind: int) -> Memory:
        return Checkpoint() if self.checkpoint else Graph()

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return locked(stages, n, lag)

    def iteration(self, player: Player) -> Iteration:
        return OptimizerStep(player) if self.accumulate == 1 else Accumulation(player, self.accumulate)


@final
class Accumulation(Iteration):
    """A batch in pieces, each a batch to the stages: the memory of a piece, the step of the whole.

        g = Σ_i g_i / m        g_i: gradient of the mean loss of piece i, of m equal ones

    Args:
        pieces: m.
    """

    def __init__(self, player: Player, pieces: int):
        self.player, self.pieces = player, pieces

    def gradient(self, n: int, x: Input, y: Labels, ahead: int) -> State | None:
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
            outputs.append(self.player.step(n * m + i, rows, labels, ahead * m + m - 1 - i))
            losses.append(loss.value)
        for stage in self.player.stages:
            for p in stage.parameters():
                if p.grad is not None:
                    p.grad /= m
        loss.value = torch.stack(losses).mean()
        found = [output for output in outputs if output is not None]
        return torch.cat(found) if found else None


class Feedback(Interface):
    """Direct feedback alignment: the output's error, by a fixed random map, with which the layers align themselves.

        e   error ∂ℓ/∂output                      (batch, outputs)
        B   drawn once, normal with variance 1/outputs
        g used = e B                              (batch, *shape)

    Nøkland (2016), Direct feedback alignment provides learning in deep neural networks, 1609.01596.
    """

    B: Float[Tensor, "outputs features"]

    def __init__(self, shape: Shape, outputs: int):
        super().__init__()
        self.register_buffer("B", torch.randn(outputs, torch.Size(shape).numel()) / outputs**0.5)

    def gradient(self, h: State, y: Labels, arrived: Tensor | None, n: int) -> Tensor:
        assert arrived is not None, "the error comes up by the post"
        return (arrived.to(self.B.dtype) @ self.B).view_as(h).to(h.dtype)


class DirectFeedback(Method):
    """Direct feedback alignment (Nøkland, 2016): feedback interfaces; a stage waits for the forward pass of those
    behind, not for their backward pass.
    """

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Feedback:
        return Feedback(shape, task.outputs)

    def post(self, task: Task) -> OutputError:
        return OutputError(task)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return locked(stages, n, lag)


class Silent(Interface):
    """Answers g = 0, so only the last stage learns: the "No Bprop" baseline of Jaderberg et al. (2017)."""

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        return torch.zeros_like(h)


class NoBprop(Method):
    """Silent interfaces, decoupled schedule: what the last stage can do alone ("No Bprop", Jaderberg et al., 2017); in
    time it is truncated backpropagation.
    """

    sent = None
    in_time = True

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Silent:
        return Silent()
