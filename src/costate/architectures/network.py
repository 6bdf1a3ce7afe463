"""A network: one block, which can be cut into stages."""

from abc import ABC
from collections.abc import Sequence
from itertools import accumulate, pairwise

from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.block import Block


class Network(nn.Module, ABC):
    """Samples (batch, *shape) to outputs (batch, outputs); the layers are those of its block.

    A subclass turns settings into a block, and does nothing else.

    Args:
        block: all the layers.
        deepen: how a user gets more layers, for the error message.
    """

    def __init__(self, block: Block, deepen: str):
        super().__init__()
        self.block = block
        self.deepen = deepen

    @property
    def layers(self) -> int:
        """Number of layers, which is the largest number of stages."""
        return self.block.layers

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch outputs"]:
        return self.block(x)

    def cut(self, stages: int, balance: Sequence[int] | None = None) -> list[Block]:
        """Copies of consecutive layers, whose composition is the network.

        Stage k ends at layer round(layers k / stages): layers take equal times, so stages are cut at equal times. Their
        initial weights are the network's, however many stages there are.

        Args:
            balance: relative sizes of the stages, where they are not to be equal.

        Raises:
            ValueError: if stages < 1 or stages > layers, the balance has not a layer for each stage, or layers of two
                stages share parameters.
        """
        if stages < 1:
            raise ValueError(f"stages={stages} is below 1: stages=1 trains the network as a whole")
        if stages > self.layers:
            layers = "1 layer" if self.layers == 1 else f"{self.layers} layers"
            raise ValueError(f"stages={stages} is more than the {layers} of the network: lower stages or {self.deepen}")
        sizes = [1] * stages if balance is None else balance
        if len(sizes) != stages:
            raise ValueError(f"balance={list(sizes)} has {len(sizes)} sizes for stages={stages}.")
        ends = [round(self.layers * part / sum(sizes)) for part in accumulate(sizes, initial=0)]
        if any(start == end for start, end in pairwise(ends)):
            raise ValueError(f"balance={list(sizes)} leaves a stage without any of the network's {self.layers} layers.")
        blocks = [self.block.slice(start, end) for start, end in pairwise(ends)]
        if sum(p.numel() for b in blocks for p in b.parameters()) > sum(p.numel() for p in self.block.parameters()):
            raise ValueError(f"stages={stages} parts layers that share parameters: lower stages, or choose a balance.")
        return blocks
