"""One direction of the boundary between two processes: messages in order, sent without waiting for the other side.

A message is a tensor with one number more, a mark that the sender may set for the receiver.
"""

from collections import deque
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


class Outbox:
    """Sends to one rank, at most `window` messages at a time: that bounds memory, and how far a sender runs ahead."""

    def __init__(self, peer: int, group: dist.ProcessGroup | None, window: int):
        self.peer, self.group, self.window = peer, group, window
        self.sent = 0
        self._under_way: deque[tuple[Any, Tensor]] = deque()

    def room(self) -> None:
        """Waits until the window has room for another message."""
        while len(self._under_way) >= self.window:
            self._under_way.popleft()[0].wait()

    def send(self, message: Float[Tensor, "*shape"], mark: bool = False) -> None:
        """Hands a message on; waits only where the window is full."""
        self.room()
        # A copy of our own: it must stay as it is until it has left.
        flat = torch.cat([message.reshape(-1), message.new_tensor([float(mark)])])
        self._under_way.append((dist.isend(flat, self.peer, group=self.group), flat))
        self.sent += flat.numel() * flat.element_size()

    def flush(self) -> None:
        """Waits until the other side has everything."""
        while self._under_way:
            self._under_way.popleft()[0].wait()


class Inbox:
    """Receives from one rank, in the order of sending; a message that is expected early travels while we compute."""

    def __init__(self, peer: int, group: dist.ProcessGroup | None):
        self.peer, self.group = peer, group
        self._expected: deque[tuple[Any, Tensor, torch.Size]] = deque()

    def __len__(self) -> int:
        return len(self._expected)

    def expect(self, like: Float[Tensor, "*shape"]) -> None:
        """Gives the next message a place to arrive at."""
        flat = like.new_empty(like.numel() + 1)
        self._expected.append((dist.irecv(flat, self.peer, group=self.group), flat, like.shape))

    def take(self) -> tuple[Float[Tensor, "*shape"], bool]:
        """Waits for the oldest message that was expected: the tensor and its mark."""
        work, flat, shape = self._expected.popleft()
        work.wait()
        return flat[:-1].view(shape), bool(flat[-1])
