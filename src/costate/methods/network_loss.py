"""The loss of a network over a batch, as a function of all its weights.

x   weights in one vector, block by block, those that every worker owns last
f   mean loss over the rows + penalties;  rows go through the network in pieces, which bounds the memory
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.norm import MOMENTUM
from costate.core.block import Block
from costate.core.tasks import Task
from costate.core.types import Input, Labels, State
from costate.pvd import Objective


@final
@dataclass(eq=False)
class NetworkLoss(Objective):
    """f: the batch is fixed, and so f is deterministic; batch norms take the statistics of a piece.

    Args:
        blocks: of the network, in the order of the forward pass.
        parameters: in the order of x.
        X, y: the batch.
        piece: rows that go through the network at once, at most.
        mean: over the processes that share out the rows.
        minibatch: rows of a sample, or None, where f itself is its only sample.
    """

    blocks: Sequence[Block]
    parameters: Sequence[nn.Parameter]
    task: Task
    X: Input
    y: Labels
    piece: int
    mean: Callable[[Tensor], Tensor]
    minibatch: int | None = None

    def __post_init__(self) -> None:
        self.network = nn.Sequential(*self.blocks)
        owned = [(m, b) for m in self.network.modules() for b in m.buffers(recurse=False)]
        self.owners = [module for module, b in owned if b.is_floating_point()]
        self.buffers = [b for _, b in owned if b.is_floating_point()]

    @torch.no_grad()
    def read(self) -> Float[Tensor, " n"]:
        """The network's weights."""
        return torch.cat([p.reshape(-1) for p in self.parameters])

    @torch.no_grad()
    def write(self, x: Float[Tensor, " n"]) -> None:
        """Gives the network these weights."""
        parts = x.split([p.numel() for p in self.parameters])
        for p, part in zip(self.parameters, parts, strict=True):
            p.copy_(part.view_as(p))

    def gradients(self) -> Float[Tensor, " n"]:
        """What is in `.grad`, in the order of x."""
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.parameters])

    def backward(self) -> tuple[Float[Tensor, ""], State]:
        """f at the network's own weights, and its output; leaves ∇f in `.grad`."""
        for p in self.parameters:
            p.grad = None
        outputs: list[Tensor] = []
        value = self.X.new_zeros(())
        for term in self._terms(outputs):
            term.backward()
            value += term.detach()
        return value, torch.cat(outputs)

    @torch.no_grad()
    def value(self, x: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        self.write(x)
        value = self.X.new_zeros(())
        for term in self._terms([]):
            value += term
        return self.mean(value[None])[0]

    def gradient(self, x: Float[Tensor, " n"]) -> tuple[Float[Tensor, ""], Float[Tensor, " n"]]:
        self.write(x)
        value, _ = self.backward()
        joint = self.mean(torch.cat([value[None], self.gradients()]))
        return joint[0], joint[1:]

    def sample(self, i: int) -> Objective:
        """f over the next few rows of the batch, in turn."""
        if self.minibatch is None:
            return self
        parts = _split(self.X, self.y, self.minibatch)
        X, y = parts[i % len(parts)]
        return NetworkLoss(self.blocks, self.parameters, self.task, X, y, self.piece, self.mean)

    @torch.no_grad()
    def settle(self) -> None:
        """Batch norms' running statistics become those of the batch under the network's present weights.

        A forward pass moves them by a share, r ← r + share (s − r), which tells s.
        """
        if not self.buffers:
            return
        before = [b.clone() for b in self.buffers]
        found = [torch.zeros_like(b) for b in self.buffers]
        for x, _, share in self._pieces():
            self.network(x)
            for s, b, r, owner in zip(found, self.buffers, before, self.owners, strict=True):
                s += share * (r + (b - r) / _momentum(owner))
                b.copy_(r)
        for b, s in zip(self.buffers, found, strict=True):
            b.copy_(s)

    def _pieces(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        for x, y in _split(self.X, self.y, self.piece):
            yield x, y, len(x) / len(self.X)

    def _terms(self, outputs: list[Tensor]) -> Iterator[Tensor]:
        """Those that f is the sum of: a piece's each, whose output is put behind the others, and the penalties."""
        for x, y, share in self._pieces():
            # Running statistics stay, for they are to be the same on all processes.
            before = [b.clone() for b in self.buffers]
            output = self.network(x)
            for b, r in zip(self.buffers, before, strict=True):
                b.data.copy_(r)
            outputs.append(output.detach())
            yield self.task.loss(output, y) * share
        penalty = self.penalty()
        if penalty is not None:
            yield penalty

    def penalty(self) -> Float[Tensor, ""] | None:
        """What regularisation adds to f."""
        penalties = [penalty for block in self.blocks if (penalty := block.penalty()) is not None]
        return torch.stack(penalties).sum() if penalties else None


def _momentum(norm: Any) -> float:
    """By which share a forward pass has just moved the norm's running statistics."""
    momentum = getattr(norm, "momentum", MOMENTUM)
    return 1 / float(norm.num_batches_tracked) if momentum is None else momentum


def _split(X: Tensor, y: Tensor, most: int) -> list[tuple[Tensor, Tensor]]:
    # About equally many rows each: a batch norm wants more than one.
    count = -(-len(X) // most)
    return list(zip(X.tensor_split(count), y.tensor_split(count), strict=True))
