"""One direction of the boundary between two processes: messages in order, sent without waiting for the other side.

A message is a letter, tensors of any precisions, and a mark that the sender may set for the receiver: all in one row of
bytes.
"""

from collections import deque
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from costate.posts import Letter


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

    def send(self, letter: Letter, mark: bool = False) -> None:
        """Hands a message on; waits only where the window is full."""
        self.room()
        # A copy of our own: it must stay as it is until it has left.
        flat = packed(letter, mark)
        self._under_way.append((dist.isend(flat, self.peer, group=self.group), flat))
        self.sent += len(flat)

    def flush(self) -> None:
        """Waits until the other side has everything."""
        while self._under_way:
            self._under_way.popleft()[0].wait()


class Inbox:
    """Receives from one rank, in the order of sending; a message that is expected early travels while we compute."""

    def __init__(self, peer: int, group: dist.ProcessGroup | None):
        self.peer, self.group = peer, group
        self._expected: deque[tuple[Any, Tensor, Letter]] = deque()

    def __len__(self) -> int:
        return len(self._expected)

    def expect(self, room: Letter) -> None:
        """Gives the next message a place to arrive at, of the sizes of these tensors."""
        flat = torch.empty(sum(part.nbytes for part in room) + 1, dtype=torch.uint8, device=room[0].device)
        self._expected.append((dist.irecv(flat, self.peer, group=self.group), flat, room))

    def take(self) -> tuple[Letter, bool]:
        """Waits for the oldest message that was expected: the letter and its mark."""
        work, flat, room = self._expected.popleft()
        work.wait()
        return unpacked(flat, room)


def packed(letter: Letter, mark: bool) -> Shaped[Tensor, " bytes"]:
    """A copy of the letter in one row of bytes, the mark at its end."""
    end = torch.full((1,), mark, dtype=torch.uint8, device=letter[0].device)
    return torch.cat([*(part.contiguous().view(-1).view(torch.uint8) for part in letter), end])


def unpacked(flat: Shaped[Tensor, " bytes"], room: Letter) -> tuple[Letter, bool]:
    """The letter of these sizes that was packed, and its mark."""
    *parts, mark = flat.split([*(part.nbytes for part in room), 1])
    return tuple(_as(part, like) for part, like in zip(parts, room, strict=True)), bool(mark)


def _as(part: Shaped[Tensor, " bytes"], like: Tensor) -> Tensor:
    # A view wherever the bytes lie as numbers of that precision must.
    aligned = part if part.storage_offset() % like.element_size() == 0 else part.clone()
    return aligned.view(like.dtype).view(like.shape)
