"""A stage: consecutive layers that are trained as one unit, with the interface behind them.

x   state at the stage's input, cut from the graph of the stage before
h   state at its output
g   gradient of the batch's mean loss at h, as the interface answers it
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from costate.architectures.block import Block
from costate.interfaces import Interface, Learning
from costate.types import Input, Labels, Shape, State


class Flight(NamedTuple):
    """What a stage remembers of a batch between its operations on it."""

    x: Tensor | None
    h: Tensor
    y: Tensor


class Stage(nn.Module):
    """The three operations of a stage on batch n; gradients add up in `.grad`, whoever plays the schedule steps.

    Args:
        block: the stage's layers.
        interface: what stands behind them; for the last stage, the loss.
        inlet: shape of a sample's state at the stage's input.
    """

    def __init__(self, block: Block, interface: Interface, inlet: Shape):
        super().__init__()
        self.block = block
        self.interface = interface
        self.inlet = inlet
        self.flights: dict[int, Flight] = {}

    def forward(self, x: Input) -> State:
        return self.block(x)

    def send(self, n: int, x: Input, y: Labels, first: bool) -> State:
        """forward: h = block(x); nobody before the first stage wants a gradient."""
        x = x.detach().requires_grad_(not first)
        h = self.block(x)
        self.flights[n] = Flight(x, h, y)
        # Under autocast h may be of another precision; states travel in that of the samples.
        return h.detach().to(x.dtype)

    def update(self, n: int, arrived: State | None, exact: bool = False) -> Input | None:
        """update: the backward pass under the interface's g, or the exact one; returns the gradient at x."""
        x, h, y = self.flights.pop(n)
        assert x is not None, "a batch is updated once"
        if exact and arrived is not None:
            self.interface.study(h.detach(), y)
            g = arrived
        else:
            g = self.interface.gradient(h.detach(), y, arrived, n)
        roots, gradients = [h], [g]
        penalty = self.block.penalty()
        if penalty is not None:
            roots.append(penalty)
            gradients.append(torch.ones_like(penalty))
        torch.autograd.backward(roots, gradients)
        if isinstance(self.interface, Learning):
            self.flights[n] = Flight(None, h.detach(), y)
        return x.grad

    def learn(self, n: int, target: State) -> None:
        """learn: the interface's regression on the gradient that arrived for batch n."""
        if isinstance(self.interface, Learning):
            _, h, y = self.flights.pop(n)
            self.interface.fit(h, y, target).backward()
