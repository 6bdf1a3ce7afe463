"""A run of consecutive layers: a whole network, or one stage of it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.restrict import Coarsening


class Block(nn.Module, ABC):
    """Consecutive layers; the first block of a network has its opening, the last one its head.

    What goes in and out of a block is one tensor, (batch, *shape): states of two fields are stacked on axis 1.
    """

    @property
    @abstractmethod
    def layers(self) -> int:
        """Number of layers, which is the number of stages that the block can be cut into."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """State at the end of the block, or the network's output, from the state (or the samples) at its beginning."""

    @abstractmethod
    def open(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The state in front of the first layer, from what goes into the block."""

    @abstractmethod
    def propagate(self, h: Float[Tensor, "batch ..."]) -> list[Float[Tensor, "batch ..."]]:
        """The state behind each layer, from the one in front of the first: for those who look, without the head."""

    @property
    @abstractmethod
    def reversible(self) -> bool:
        """Whether the layers can be run backwards."""

    @property
    @abstractmethod
    def opens(self) -> bool:
        """Whether there is something in front that cannot be run backwards, so that what goes in must be kept."""

    @abstractmethod
    def inverse(self, h: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The state in front of the first layer from the one behind the last; opening and head stay outside.

        `inverse(propagate(h)[-1])` is h up to rounding, under the same weights. In training batch norm takes the
        statistics of the batch, as it did on the way forward, and its running ones stand still.

        Raises:
            ValueError: if the block is not reversible.
        """

    @abstractmethod
    def retrace(
        self, h: Float[Tensor, "batch ..."], x: Float[Tensor, "batch ..."] | None
    ) -> tuple[Float[Tensor, "batch ..."], Float[Tensor, "batch ..."]]:
        """x and h with the graph of h = block(x), of which h is known: nothing is evaluated before the backward pass.

        It rebuilds the states in between from h, under today's weights, and stores none of them.

        Args:
            h: the state at the end of a block without a head.
            x: what went in, if the block opens or is a network's first; of others the backward pass fills x in.

        Raises:
            ValueError: if the block is not reversible.
        """

    @abstractmethod
    def penalty(self) -> Float[Tensor, ""] | None:
        """What regularisation adds to the loss; None where it adds nothing."""

    @abstractmethod
    def ending(self) -> list[nn.Parameter]:
        """The parameters of the layer that gives the output; asked of a network's last block."""

    @abstractmethod
    def slice(self, start: int, end: int) -> "Block":
        """A copy of layers start, ..., end − 1."""

    @abstractmethod
    def coarser(self, rule: Coarsening) -> int:
        """Number of layers of a coarse copy.

        Raises:
            ValueError: if layers are no time steps, and more than one is to become one.
        """

    @abstractmethod
    def coarse(self, rule: Coarsening) -> "Block":
        """A copy over the same time with so many layers, from boundary to boundary; the same ValueError."""

    @abstractmethod
    def stand_for(self, block: "Block") -> None:
        """The copy is told that the block's layers are other ones now."""

    @abstractmethod
    def join(self, behind: "Block") -> None:
        """Says that a copy goes on with the next one: what lies between them is no boundary, but a state of theirs."""

    @abstractmethod
    def stacks(self) -> list[Float[Tensor, "layers ..."]]:
        """The parameters and buffers that hold a row for each layer, in a fixed order.

        Raises:
            ValueError: if layers are no time steps.
        """

    @abstractmethod
    def refine(self, stacks: Sequence[Float[Tensor, "finer ..."]]) -> None:
        """Takes other stacks, of any number of layers, over the same time; parameters stay the same objects."""
