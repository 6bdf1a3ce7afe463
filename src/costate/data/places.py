"""What loaders share: Lightning can save and restore their place in an epoch.

torch's DataLoader would draw from the global generator at each pass, so that a resumed run would differ from an
uninterrupted one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import Tensor

Batch = tuple[Tensor, Tensor]


class Places(ABC):
    """Hands out the batches of an epoch, from any of them on."""

    batch_sampler = None  # Lightning asks for it wherever there is a sampler

    def __init__(self) -> None:
        self.epoch = 0
        self.batch = 0  # batches handed out in this epoch
        self._skip = 0  # batches that the next pass leaves out, since they were handed out before a restart

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches in an epoch."""

    @abstractmethod
    def batches(self, start: int) -> Iterator[Batch]:
        """Fresh pairs (x float, y) of the present epoch, from this one on; one is made when it is asked for."""

    @property
    def sampler(self) -> "Places":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; a place within another epoch is forgotten."""
        if epoch != self.epoch:
            self.epoch, self.batch, self._skip = epoch, 0, 0

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing happens before the first batch is asked for. Lightning restores a loader, makes its
        # iterator, and only then says which epoch it is.
        self.batch, self._skip = self._skip, 0
        for pair in self.batches(self.batch):
            self.batch += 1
            yield pair

    def state_dict(self) -> dict[str, int]:
        """The place: epoch and batches handed out in it. It does not depend on the replica."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass over that epoch go on behind that batch."""
        self.epoch = state["epoch"]
        self.batch = self._skip = state["batch"]
