"""Recurrent networks: layers of cells, each the same at every step, and a linear map that reads the topmost one.

    x_t   input of a layer at step t, the samples' or h_t of the layer below    (batch, features)
    s_t   its state behind it, all that is carried on; s_0 = 0                  (batch, size)
    h_t   part of s_t that is read                                              (batch, width)
    o_t   output, A h_t + a of the topmost h_t

A sample is a sequence (steps, features), of any number of steps, and its output is (steps, outputs). A layer is run
over several steps at once, (x, s) to h of each step and s behind the last one. So a network is cut in two directions:
between two spans of steps stands s, of all layers of a stage in one tensor, and between two layers h of each step.

Where a step is one of an equation, several of them can be made at once, in coarse steps.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.chain import Chain
from costate.config.settings import Amount, Count, Rate
from costate.core.block import Network
from costate.core.types import Shape


@final
class TorchCell(nn.Module):
    """A layer of torch's own, batch first, an LSTM, a GRU or a plain one with tanh; s = (h, c) for an LSTM, else h."""

    def __init__(self, layers: nn.RNNBase):
        super().__init__()
        self.layers = layers
        self.width = layers.hidden_size
        self.parts = 2 if isinstance(layers, nn.LSTM) else 1
        self.size = self.parts * self.width

    def forward(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        # Torch has layers in front of rows.
        parts = tuple(part.contiguous()[None] for part in s.chunk(self.parts, dim=1))
        h, last = self.layers(x, parts if self.parts == 2 else parts[0])
        return h, torch.cat(last if self.parts == 2 else [last], dim=2)[0]


@final
class AntisymmetricCell(nn.Module):
    """h ← h + ε z ∘ tanh(M h + V x + b), z = sigmoid(M h + U x + c), M = W − Wᵀ − γ I, a gated step of an equation.

    For γ ≥ 0 the eigenvalues of M have real part ≤ 0: over many steps a state is neither blown up nor forgotten, but
    for γ (Chang, Chen, Haber & Chi, 2019, 1902.09689, equation 14).

    With h_{i+1} = h_i + ε f(h_i, x_i), a coarse step makes k of them at once, in two sweeps (Picard):

        h̄_i = h_0 + ε Σ_{j<i} f(h_0, x_j),  h_i = h_0 + ε Σ_{j<i} f(h̄_j, x_j)      i = 1, ..., k

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
        M, drive, found = self._matrix(), self.drive(x), []
        for t in range(x.shape[1]):
            s = s + self.step * _field(s @ M.T, drive[:, t])
            found.append(s)
        return torch.stack(found, dim=1), s

    def coarse(self, x: Tensor, s: Tensor, factor: int) -> tuple[Tensor, Tensor]:
        """As `forward`, so many steps at once: of one and of two the same, of k up to terms in (k ε)³."""
        M, found = self._matrix(), []
        for drive in self.drive(x).split(factor, dim=1):
            change = self.step * _field((s @ M.T)[:, None], drive)
            before = s[:, None] + change.cumsum(dim=1) - change
            h = s[:, None] + self.step * _field(before @ M.T, drive).cumsum(dim=1)
            s = h[:, -1]
            found.append(h)
        return torch.cat(found, dim=1), s

    def _matrix(self) -> Tensor:
        eye = torch.eye(self.width, device=self.W.device, dtype=self.W.dtype)
        return self.W - self.W.T - self.damping * eye


def _field(pulled: Tensor, drive: Tensor) -> Tensor:
    """f, of M h and of what the inputs add to it."""
    a, b = drive.chunk(2, dim=-1)
    return torch.sigmoid(pulled + b) * torch.tanh(pulled + a)


Cell: TypeAlias = TorchCell | AntisymmetricCell


@final
class Recurrence(nn.Module):
    """A layer: its cell, and behind the topmost one the readout, over whole sequences or over spans of them."""

    def __init__(self, cell: Cell, outputs: int | None):
        super().__init__()
        self.cell = cell
        self.readout = nn.Identity() if outputs is None else nn.Linear(cell.width, outputs)

    def forward(self, x: Float[Tensor, "batch steps features"]) -> Float[Tensor, "batch steps outputs"]:
        return self.unroll(x, self.start(x))[0]

    def start(self, x: Float[Tensor, "batch steps features"]) -> Float[Tensor, "batch size"]:
        """s_0."""
        return x.new_zeros(len(x), self.cell.size)

    def unroll(
        self, x: Float[Tensor, "batch steps features"], s: Float[Tensor, "batch size"], factor: int = 1
    ) -> tuple[Float[Tensor, "batch steps outputs"], Float[Tensor, "batch size"]]:
        """Outputs of these steps, and the state behind the last one, from the state in front of the first.

        Args:
            factor: steps that are made at once, where they are those of an equation.
        """
        if factor == 1:
            h, s = self.cell(x, s)
        else:
            assert isinstance(self.cell, AntisymmetricCell), "others have no step"
            h, s = self.cell.coarse(x, s, factor)
        return self.readout(h), s


@final
class Layers:
    """Layers on top of each other, as one: their states lie side by side in its state."""

    def __init__(self, layers: Sequence[Recurrence]):
        self.layers, self.sizes = layers, [layer.cell.size for layer in layers]
        self.size = sum(self.sizes)

    @property
    def step(self) -> float | None:
        """ε, the longest one of its layers; None where steps solve no equation."""
        cells = [layer.cell for layer in self.layers]
        steps = [cell.step for cell in cells if isinstance(cell, AntisymmetricCell)]
        return max(steps) if len(steps) == len(cells) else None

    def start(self, x: Float[Tensor, "batch steps features"]) -> Float[Tensor, "batch size"]:
        """s_0."""
        return torch.cat([layer.start(x) for layer in self.layers], dim=1)

    def unroll(
        self, x: Float[Tensor, "batch steps features"], s: Float[Tensor, "batch size"], factor: int = 1
    ) -> tuple[Float[Tensor, "batch steps outputs"], Float[Tensor, "batch size"]]:
        """As of one layer."""
        ends = []
        for layer, own in zip(self.layers, s.split(self.sizes, dim=1), strict=True):
            x, end = layer.unroll(x, own, factor)
            ends.append(end)
        return x, torch.cat(ends, dim=1)


def recurrence(*blocks: nn.Module) -> Layers | None:
    """All layers of these stages of a recurrent network; None of another one."""
    layers = [layer for block in blocks for layer in (block.chain if isinstance(block, Chain) else [block])]
    found = [layer for layer in layers if isinstance(layer, Recurrence)]
    return Layers(found) if len(found) == len(layers) else None


class Recurrent(Network):
    """A recurrent network; a stage may begin at any of its layers.

    Args:
        layers: on top of each other.
        cell: makes that of a layer, which reads so many numbers a step.

    Raises:
        ValueError: samples are no sequences.
    """

    def __init__(self, shape: Shape, outputs: int, layers: int, cell: Callable[[int], Cell]):
        if len(shape) != 2:
            raise ValueError(
                f"A recurrent network reads sequences (steps, features), and samples are {shape}: choose data=copy or "
                "data=sequential_mnist, or another arch."
            )
        cells = [cell(shape[1])]
        cells += [cell(cells[0].width) for _ in range(layers - 1)]
        chain = [*(Recurrence(each, None) for each in cells[:-1]), Recurrence(cells[-1], outputs)]
        super().__init__(Chain(nn.Sequential(*chain)), "raise arch.layers")


@final
class Lstm(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber, 1997).

    Args:
        width: of the hidden state; the state carried on is twice that a layer.
        layers: cells on top of each other.
        remember: bias of the forget gates at the start (Jozefowicz et al., 2015: 1).
    """

    def __init__(self, shape: Shape, outputs: int, *, width: Count, layers: Count, remember: float):
        def cell(features: int) -> TorchCell:
            lstm = nn.LSTM(features, width, batch_first=True)
            for name, bias in lstm.named_parameters():
                if name.startswith("bias"):
                    # Torch has two biases, which are added up; gates are in the order input, forget, cell, output.
                    bias.data[width : 2 * width] = remember if "_ih_" in name else 0
            return TorchCell(lstm)

        super().__init__(shape, outputs, layers, cell)


@final
class Gru(Recurrent):
    """Gated recurrent unit (Cho et al., 2014)."""

    def __init__(self, shape: Shape, outputs: int, *, width: Count, layers: Count):
        super().__init__(shape, outputs, layers, lambda features: TorchCell(nn.GRU(features, width, batch_first=True)))


@final
class Rnn(Recurrent):
    """h ← tanh(W h + V x + b) (Elman, 1990)."""

    def __init__(self, shape: Shape, outputs: int, *, width: Count, layers: Count):
        super().__init__(shape, outputs, layers, lambda features: TorchCell(nn.RNN(features, width, batch_first=True)))


@final
class AntisymmetricRnn(Recurrent):
    """The stable one (Chang et al., 2019)."""

    def __init__(self, shape: Shape, outputs: int, *, width: Count, layers: Count = 1, step: Rate, damping: Amount):
        super().__init__(shape, outputs, layers, lambda features: AntisymmetricCell(features, width, step, damping))
