"""A copy of the layers behind a boundary, asked for the gradient there, in place of a synthesizer.

    Φ̄    copy of the layers behind, of the last refresh       h -> output
    p_i = ∂ℓ_i(Φ̄(h_i), c_i)/∂h_i                              of each sample's own loss

Nothing is learnt, and no error adds up from boundary to boundary; with refresh 1 p is the true gradient.
"""

import copy
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from costate.types import State

Loss = Callable[[Tensor, Tensor], Tensor]


@final
class Behind(nn.Module):
    """What a boundary takes for its synthesizer: `Boundary(classes=10, synthesizer=Behind(layers, refresh=20))`.

    Args:
        layers: those behind the boundary, in their order; they are copied, and stay the model's own.
        refresh: calls from one copy to the next.
        loss: mean over the rows, of the output and of the context as numbers; None: cross-entropy over classes.

    Raises:
        ValueError: refresh is below 1.
    """

    calls: Tensor

    def __init__(self, layers: Sequence[nn.Module], *, refresh: int, loss: Loss | None = None):
        super().__init__()
        if refresh < 1:
            raise ValueError(f"refresh={refresh} is below 1: it is the number of batches from one copy to the next.")
        # In a tuple, so that they are not this module's too.
        self.live = (nn.Sequential(*layers),)
        self.copies = copy.deepcopy(self.live[0]).requires_grad_(False)
        self.refresh, self.loss = refresh, loss or _classes
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, h: State, c: Tensor | None) -> State:
        """p, without a graph.

        Raises:
            ValueError: the boundary was told nothing.
        """
        if c is None:
            raise ValueError("A copy of what is behind needs the labels: give classes=... or targets=...")
        if self.calls % self.refresh == 0:
            self.copies.load_state_dict(self.live[0].state_dict())
        self.calls += 1
        with torch.enable_grad():
            end = h.detach().requires_grad_()
            (g,) = torch.autograd.grad(self.loss(self.copies(end), c), end)
        return g * len(h)


def _classes(output: Tensor, c: Tensor) -> Tensor:
    return F.cross_entropy(output, c.argmax(dim=1))
