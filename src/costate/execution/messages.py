"""Tensors on their way from process to process: messages of torch.distributed, point to point and in order.

Where both sides know what comes next, `Outbox` and `Inbox`: one direction of a boundary of a pipeline. A message is a
letter, tensors of any precisions, and a mark that the sender may set for the receiver, all in one row of bytes. `Rooms`
says how many of them may be on their way.

Where the receiver knows nothing, `Sender` and `Receiver`: tensors and a number.

    n bytes   kind | number | tensors, each at a multiple of eight bytes

A receiver has to say beforehand how much it has room for. So each message is as long as the one before it, and where
the tensors change their shapes, one of the old length announces the new ones.
"""

import json
import math
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, final

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from costate.core.post import Letter

Bytes = Shaped[Tensor, " bytes"]


class _Sending:
    """Sends to one rank messages that may not have arrived yet; each stays as it is until it has left."""

    def __init__(self, peer: int, group: dist.ProcessGroup | None, tag: int = 0):
        self._peer, self._group, self._tag = peer, group, tag
        self._messages: deque[tuple[Any, Tensor]] = deque()

    def flush(self, window: int = 1) -> None:
        """Waits until fewer than so many are left: gloo says that a message has gone only when it is waited for."""
        while len(self._messages) >= window:
            self._messages.popleft()[0].wait()

    def _post(self, message: Bytes) -> None:
        self._messages.append((dist.isend(message, self._peer, self._group, self._tag), message))


@final
class Outbox(_Sending):
    """Sends to one rank, at most `window` messages at a time: that bounds memory, and how far a sender runs ahead.

    Attributes:
        sent: bytes.
    """

    def __init__(self, peer: int, group: dist.ProcessGroup | None, window: int):
        super().__init__(peer, group)
        self.window, self.sent = window, 0

    def room(self) -> None:
        """Waits until the window has room for another message."""
        self.flush(self.window)

    def send(self, letter: Letter, mark: bool = False) -> None:
        """Hands a message on; waits only where the window is full."""
        self.room()
        message = packed(letter, mark)
        self._post(message)
        self.sent += len(message)


@final
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


@final
class Rooms:
    """Says how many states a far link is to carry in a round trip, and behind which batch to stop, alike on all ranks.

        batch           0      1      2      3      4      5        window 2, six batches
        then room for   1 2    2 3    3 4    4 5    5      .
        asked at 1      1 2    2      .                             all stop behind 2, and nothing is under way

    Word that there is room takes as long as a state. Room is made before anybody knows of its batch, so for as many
    rows as there are now: a smaller batch travels with rows that nobody reads.

    Args:
        window: states that there may be room for.

    Attributes:
        stopping: whether all stop behind the latest batch.
    """

    def __init__(self, window: int):
        self.window, self.stopping = window, False
        self._rows: deque[int] = deque()
        self._last: int | None = None

    def take(self, n: int, rows: int) -> int:
        """With how many rows the state of batch n travels, which has so many.

        Raises:
            ValueError: there is room for fewer.
        """
        room = self._rows.popleft() if self._rows else rows
        if rows > room:
            raise ValueError(f"Batch {n} has {rows} rows, one before it {room}: batches of an epoch do not grow.")
        return room

    def make(self, n: int, rows: int, ahead: int, asked: bool) -> int:
        """For how many states more to make room behind batch n, which so many follow.

        Args:
            asked: whether a rank was asked to stop, which all know from this batch on.
        """
        if asked and self._last is None:
            self._last = n + min(self.window - 1, ahead)
        self.stopping = self._last is not None and n >= self._last
        known = ahead if self._last is None else max(0, min(ahead, self._last - n))
        more = max(0, min(self.window, known) - len(self._rows))
        self._rows.extend([rows] * more)
        return more


def packed(letter: Letter, mark: bool) -> Bytes:
    """A copy of the letter in one row of bytes, the mark at its end."""
    end = torch.full((1,), mark, dtype=torch.uint8, device=letter[0].device)
    return torch.cat([*(part.contiguous().view(-1).view(torch.uint8) for part in letter), end])


def unpacked(flat: Bytes, room: Letter) -> tuple[Letter, bool]:
    """The letter of these sizes that was packed, and its mark."""
    *parts, mark = flat.split([*(part.nbytes for part in room), 1])
    return tuple(_as(part, like) for part, like in zip(parts, room, strict=True)), bool(mark)


def _as(part: Bytes, like: Tensor) -> Tensor:
    # A view wherever the bytes lie as numbers of that precision must.
    aligned = part if part.storage_offset() % like.element_size() == 0 else part.clone()
    return aligned.view(like.dtype).view(like.shape)


END, SHAPES, TENSORS = range(3)
"""Kinds of messages."""

HEAD, ALIGN, LEAST = 16, 8, 512
"""Bytes: of kind and number, of which a tensor begins at a multiple, and of the shortest message."""

WINDOW, ROOM = 64, 2**25
"""Messages of one sender that may be on the wire at once, and bytes, if they are more than two."""

Form = list[tuple[list[int], str]]
"""Shapes and precisions."""


@final
class Sender(_Sending):
    """Sends to one rank; by the tag messages between the same two ranks are told apart."""

    def __init__(self, peer: int, group: dist.ProcessGroup | None, tag: int):
        super().__init__(peer, group, tag)
        self._form: Form = []

    def send(self, number: int, tensors: Sequence[Tensor]) -> None:
        """Hands a message on; waits only where the window is full."""
        form = [(list(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for tensor in tensors]
        if form != self._form:
            told = json.dumps(form).encode()
            assert len(told) <= LEAST - HEAD, "a handful of tensors"
            self._pack(SHAPES, len(told), [torch.frombuffer(bytearray(told), dtype=torch.uint8)])
            self._form = form
        self._pack(TENSORS, number, tensors)

    def end(self) -> None:
        """The last message."""
        self._pack(END, 0, [])

    def _pack(self, kind: int, number: int, tensors: Sequence[Tensor]) -> None:
        # Not by operations on tensors: each lets go of the interpreter, and gets it back when another thread likes.
        message = bytearray(_length(self._form))
        self.flush(max(2, min(WINDOW, ROOM // len(message))))
        struct.pack_into("qq", message, 0, kind, number)
        start = HEAD
        for tensor in tensors:
            plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
            values = plain.numpy(force=True).tobytes()
            message[start : start + len(values)] = values
            start += _padded(len(values))
        self._post(torch.frombuffer(message, dtype=torch.uint8))


@final
class Receiver:
    """Receives what a sender with the same tag sends."""

    def __init__(self, peer: int, group: dist.ProcessGroup | None, tag: int):
        self._peer, self._group, self._tag = peer, group, tag
        self._form: Form = []

    def take(self) -> tuple[int, list[Tensor]] | None:
        """Waits for the next message; None for the last one."""
        while True:
            message = bytearray(_length(self._form))
            place = torch.frombuffer(message, dtype=torch.uint8)
            dist.recv(place, self._peer, self._group, self._tag)
            kind, number = struct.unpack_from("qq", message)
            if kind == END:
                return None
            if kind == TENSORS:
                return number, _tensors(message, self._form)
            self._form = [(shape, name) for shape, name in json.loads(message[HEAD : HEAD + number])]


def _padded(size: int) -> int:
    return size + -size % ALIGN


def _length(form: Form) -> int:
    return max(LEAST, HEAD + sum(_padded(math.prod(shape) * getattr(torch, name).itemsize) for shape, name in form))


def _tensors(message: bytearray, form: Form) -> list[Tensor]:
    """Views into a message."""
    found, start = [], HEAD
    for shape, name in form:
        count, dtype = math.prod(shape), getattr(torch, name)
        empty = torch.empty(0, dtype=dtype)
        values = torch.frombuffer(message, dtype=dtype, count=count, offset=start) if count else empty
        found.append(values.view(shape))
        start += _padded(count * dtype.itemsize)
    return found
