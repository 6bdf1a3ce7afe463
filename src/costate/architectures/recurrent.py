"""Recurrent networks: one cell, the same at every step, and a linear map that reads its state.

    x_t   input at step t                       (batch, features)
    s_t   state behind step t; s_0 = 0          (batch, size)
    o_t   output, A h_t + a of the part h_t of s_t that is read

A sample is a sequence (steps, features), of any number of steps, and its output is (steps, outputs).
"""

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.cells import AntisymmetricCell, Cell, TorchCell
from costate.architectures.chain import Chain
from costate.architectures.network import Network
from costate.config.settings import Amount, Count, Rate
from costate.core.types import Shape


@final
class Recurrence(nn.Module):
    """A cell and its readout, over whole sequences or over spans of them."""

    def __init__(self, cell: Cell, outputs: int):
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
    """A recurrent network: in depth one layer, and one stage.

    Raises:
        ValueError: samples are no sequences.
    """

    def __init__(self, shape: Shape, outputs: int, cell: Callable[[int], Cell]):
        if len(shape) != 2:
            raise ValueError(
                f"A recurrent network reads sequences (steps, features), and samples are {shape}: choose data=copy or "
                "data=sequential_mnist, or another arch."
            )
        deepen = "choose stages=1: a recurrent network is cut in time, by span"
        super().__init__(Chain(nn.Sequential(Recurrence(cell(shape[1]), outputs))), deepen)


@final
class Lstm(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber, 1997).

    Args:
        width: of the hidden state; the state carried on is twice that a layer.
        layers: cells on top of each other.
        remember: bias of the forget gates at the start (Jozefowicz et al., 2015: 1).
    """

    def __init__(self, shape: Shape, outputs: int, *, width: Count, layers: Count, remember: float):
        def cell(features: int) -> Cell:
            lstm = nn.LSTM(features, width, layers, batch_first=True)
            with torch.no_grad():
                for name, bias in lstm.named_parameters():
                    if name.startswith("bias"):
                        # Torch has two biases, which are added up; gates are in the order input, forget, cell, output.
                        bias[width : 2 * width] = remember if "_ih_" in name else 0
            return TorchCell(lstm)

        super().__init__(shape, outputs, cell)


@final
class Gru(Recurrent):
    """Gated recurrent unit (Cho et al., 2014)."""

    def __init__(self, shape: Shape, outputs: int, *, width: Count, layers: Count):
        super().__init__(shape, outputs, lambda features: TorchCell(nn.GRU(features, width, layers, batch_first=True)))


@final
class Rnn(Recurrent):
    """h ← tanh(W h + V x + b) (Elman, 1990)."""

    def __init__(self, shape: Shape, outputs: int, *, width: Count, layers: Count):
        super().__init__(shape, outputs, lambda features: TorchCell(nn.RNN(features, width, layers, batch_first=True)))


@final
class AntisymmetricRnn(Recurrent):
    """The stable one (Chang et al., 2019)."""

    def __init__(self, shape: Shape, outputs: int, *, width: Count, step: Rate, damping: Amount):
        super().__init__(shape, outputs, lambda features: AntisymmetricCell(features, width, step, damping))


def recurrence(block: nn.Module) -> Recurrence | None:
    """That of a recurrent network's block; None of another one."""
    only = block.chain[0] if isinstance(block, Chain) and block.layers == 1 else None
    return only if isinstance(only, Recurrence) else None
