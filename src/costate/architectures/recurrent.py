"""Recurrent networks: one cell, the same at every step, and a linear map that reads its state.

    x_t   input at step t                                        (batch, features)
    s_t   state behind it, all that is carried on; s_0 = 0       (batch, size)
    h_t   part of s_t that is read, that of the topmost layer    (batch, width)
    o_t   output, A h_t + a

A sample is a sequence (steps, features), of any number of steps, and its output is (steps, outputs). A cell is run over
several steps at once, (x, s) to h of each step and s behind the last one; the state between two spans of steps is one
tensor, as the state between two stages is.
"""

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.chain import Chain
from costate.config.settings import Amount, Count, Rate
from costate.core.block import Network
from costate.core.types import Shape


@final
class TorchCell(nn.Module):
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
class AntisymmetricCell(nn.Module):
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


@final
class Recurrence(nn.Module):
    """A cell and its readout, over whole sequences or over spans of them."""

    def __init__(self, cell: TorchCell | AntisymmetricCell, outputs: int):
        super().__init__()
        self.cell = cell
        self.readout = nn.Linear(cell.width, outputs)

    def forward(self, x: Float[Tensor, "batch steps features"]) -> Float[Tensor, "batch steps outputs"]:
        return self.unroll(x, self.start(x))[0]

    def start(self, x: Float[Tensor, "batch steps features"]) -> Float[Tensor, "batch size"]:
        """s_0."""
        return x.new_zeros(len(x), self.cell.size)

    def unroll(
        self, x: Float[Tensor, "batch steps features"], s: Float[Tensor, "batch size"]
    ) -> tuple[Float[Tensor, "batch steps outputs"], Float[Tensor, "batch size"]]:
        """Outputs of these steps, and the state behind the last one, from the state in front of the first."""
        h, s = self.cell(x, s)
        return self.readout(h), s


class Recurrent(Network):
    """A recurrent network: in depth one layer, and one stage."""

    def __init__(self, cell: TorchCell | AntisymmetricCell, outputs: int):
        deepen = "choose stages=1: a recurrent network is cut in time, by span"
        super().__init__(Chain(nn.Sequential(Recurrence(cell, outputs))), deepen)


def features(shape: Shape) -> int:
    """Of a step.

    Raises:
        ValueError: samples are no sequences.
    """
    if len(shape) != 2:
        raise ValueError(
            f"A recurrent network reads sequences (steps, features), and samples are {shape}: choose data=copy or "
            "data=sequential_mnist, or another arch."
        )
    return shape[1]


@final
class Lstm(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber, 1997).

    Args:
        width: of the hidden state; the state carried on is twice that a layer.
        layers: cells on top of each other.
        remember: bias of the forget gates at the start (Jozefowicz et al., 2015: 1).
    """

    def __init__(self, shape: Shape, outputs: int, *, width: Count, layers: Count, remember: float):
        lstm = nn.LSTM(features(shape), width, layers, batch_first=True)
        for name, bias in lstm.named_parameters():
            if name.startswith("bias"):
                # Torch has two biases, which are added up; gates are in the order input, forget, cell, output.
                bias.data[width : 2 * width] = remember if "_ih_" in name else 0
        super().__init__(TorchCell(lstm), outputs)


@final
class Gru(Recurrent):
    """Gated recurrent unit (Cho et al., 2014)."""

    def __init__(self, shape: Shape, outputs: int, *, width: Count, layers: Count):
        super().__init__(TorchCell(nn.GRU(features(shape), width, layers, batch_first=True)), outputs)


@final
class Rnn(Recurrent):
    """h ← tanh(W h + V x + b) (Elman, 1990)."""

    def __init__(self, shape: Shape, outputs: int, *, width: Count, layers: Count):
        super().__init__(TorchCell(nn.RNN(features(shape), width, layers, batch_first=True)), outputs)


@final
class AntisymmetricRnn(Recurrent):
    """The stable one (Chang et al., 2019)."""

    def __init__(self, shape: Shape, outputs: int, *, width: Count, step: Rate, damping: Amount):
        super().__init__(AntisymmetricCell(features(shape), width, step, damping), outputs)


def recurrence(block: nn.Module) -> Recurrence | None:
    """That of a recurrent network's block; None of another one."""
    only = block.chain[0] if isinstance(block, Chain) and block.layers == 1 else None
    return only if isinstance(only, Recurrence) else None
