"""What a recurrent network does at a step: cells, whose whole state is one row.

    x_t   input at step t                                        (batch, features)
    s_t   state behind it, all that is carried on                (batch, size)
    h_t   part of s_t that is read, that of the topmost layer    (batch, width)

A cell is run over several steps at once, (batch, steps, features); the state between two spans of steps is one tensor,
as the state between two stages is.
"""

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Cell(nn.Module, ABC):
    """Some steps of a recurrent network.

    Attributes:
        size: numbers of a sample's state.
        width: numbers of it that are read.
    """

    size: int
    width: int

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "batch steps features"], s: Float[Tensor, "batch size"]
    ) -> tuple[Float[Tensor, "batch steps width"], Float[Tensor, "batch size"]]:
        """h of each step, and s behind the last one."""


@final
class TorchCell(Cell):
    """Layers of torch's own, an LSTM, a GRU or a plain one with tanh; s = (h, c) of all layers for an LSTM, else h.

    Args:
        layers: the module, batch first.
    """

    def __init__(self, layers: nn.RNNBase):
        super().__init__()
        self.layers = layers
        self.width = layers.hidden_size
        self.parts = 2 if isinstance(layers, nn.LSTM) else 1
        self.size = self.parts * layers.num_layers * self.width

    def forward(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        parts = s.view(len(s), self.parts, self.layers.num_layers, self.width).permute(1, 2, 0, 3).contiguous()
        h, last = self.layers(x, tuple(parts) if self.parts == 2 else parts[0])
        # (parts, layers, batch, width), so that rows are samples again.
        end = torch.stack(last) if self.parts == 2 else last[None]
        return h, end.permute(2, 0, 1, 3).reshape(len(s), -1)


@final
class AntisymmetricCell(Cell):
    """h ← h + ε z ∘ tanh(M h + V x + b), z = sigmoid(M h + U x + c), M = W − Wᵀ − γ I, a gated step of an equation.

    For γ ≥ 0 the eigenvalues of M have real part ≤ 0: over many steps a state is neither blown up nor forgotten, but
    for γ (Chang, Chen, Haber & Chi, 2019, 1902.09689, equation 14).

    Args:
        step: ε.
        damping: γ.
    """

    def __init__(self, features: int, width: int, step: float, damping: float):
        super().__init__()
        self.size = self.width = width
        self.step, self.damping = step, damping
        self.W = nn.Parameter(torch.randn(width, width) / math.sqrt(width))
        self.drive = nn.Linear(features, 2 * width)

    def forward(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        M = self.W - self.W.T - self.damping * torch.eye(self.width, device=x.device, dtype=x.dtype)
        drive, found = self.drive(x), []
        for t in range(x.shape[1]):
            pulled = s @ M.T
            a, b = drive[:, t].chunk(2, dim=1)
            s = s + self.step * torch.sigmoid(pulled + b) * torch.tanh(pulled + a)
            found.append(s)
        return torch.stack(found, dim=1), s
