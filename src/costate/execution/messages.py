"""One direction of the boundary between two processes: messages in order, sent without waiting for the other side.

A message is a letter, tensors of any precisions, and a mark that the sender may set for the receiver: all in one row of
bytes.

Tensors and a number as messages of torch.distributed, point to point, in order.

    n bytes   kind | number | tensors, each at a multiple of eight bytes

A receiver has to say beforehand how much it has room for. So each message is as long as the one before it, and where
the tensors change their shapes, one of the old length announces the new ones.
"""

import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, final

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


END, SHAPES, TENSORS = range(3)
"""Kinds of messages."""

HEAD, ALIGN, LEAST = 16, 8, 512
"""Bytes: of kind and number, of which a tensor begins at a multiple, and of the shortest message."""

WINDOW, ROOM = 64, 2**25
"""Messages of one sender that may be on the wire at once, and bytes, if they are more than two."""

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DTYPES = (*FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)

Form = tuple[tuple[tuple[int, ...], torch.dtype], ...]
"""Shapes and precisions."""

SHAPE: Form = ((((LEAST - HEAD) // ALIGN,), torch.int64),)
"""Of a message that announces shapes: it has room for so many numbers."""


@final
class Sender:
    """Sends to one rank.

    Args:
        tag: by which messages between the same two ranks are told apart.
    """

    def __init__(self, peer: int, group: dist.ProcessGroup | None, tag: int):
        self._peer, self._where = peer, {"group": group, "tag": tag}
        self._form: Form = ()
        self._under_way: deque[tuple[Any, Tensor]] = deque()

    def send(self, number: int, tensors: Sequence[Tensor]) -> None:
        """Hands a message on; waits only where the window is full."""
        form = tuple((tuple(tensor.shape), tensor.dtype) for tensor in tensors)
        if form != self._form:
            self._post(SHAPES, 0, [_written(form)])
            self._form = form
        self._post(TENSORS, number, tensors)

    def end(self) -> None:
        """The last message."""
        self._post(END, 0, [])

    def flush(self) -> None:
        """Waits until the other side has all messages."""
        while self._under_way:
            self._under_way.popleft()[0].wait()

    def _post(self, kind: int, number: int, tensors: Sequence[Tensor]) -> None:
        length = _length(self._form)
        # Of a message gloo says that it has gone only when it is waited for.
        while len(self._under_way) >= max(2, min(WINDOW, ROOM // length)):
            self._under_way.popleft()[0].wait()
        message = torch.frombuffer(_packed(kind, number, tensors, length), dtype=torch.uint8)
        self._under_way.append((dist.isend(message, self._peer, **self._where), message))  # type: ignore[arg-type]


@final
class Receiver:
    """Receives what a sender with the same tag sends."""

    def __init__(self, peer: int, group: dist.ProcessGroup | None, tag: int):
        self._peer, self._where = peer, {"group": group, "tag": tag}
        self._form: Form = ()

    def take(self) -> tuple[int, list[Tensor]] | None:
        """Waits for the next message; None for the last one."""
        while True:
            message = bytearray(_length(self._form))
            place = torch.frombuffer(message, dtype=torch.uint8)
            dist.recv(place, self._peer, **self._where)  # type: ignore[arg-type]
            kind, number = struct.unpack_from("qq", message)
            if kind == END:
                return None
            if kind == TENSORS:
                return number, _tensors(message, self._form)
            (numbers,) = _tensors(message, SHAPE)
            self._form = _read(numbers.tolist())


def _packed(kind: int, number: int, tensors: Sequence[Tensor], length: int) -> bytearray:
    # Not by operations on tensors: each of them lets go of the interpreter, and gets it back when another thread likes.
    message = bytearray(length)
    struct.pack_into("qq", message, 0, kind, number)
    start = HEAD
    for tensor in tensors:
        plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
        values = plain.numpy(force=True).tobytes()
        message[start : start + len(values)] = values
        start += _padded(len(values))
    return message


def _padded(size: int) -> int:
    return size + -size % ALIGN


def _length(form: Form) -> int:
    return max(LEAST, HEAD + sum(_padded(torch.Size(shape).numel() * dtype.itemsize) for shape, dtype in form))


def _tensors(message: bytearray, form: Form) -> list[Tensor]:
    """Views into a message."""
    found, start = [], HEAD
    for shape, dtype in form:
        count = torch.Size(shape).numel()
        values = (
            torch.frombuffer(message, dtype=dtype, count=count, offset=start) if count else torch.empty(0, dtype=dtype)
        )
        found.append(values.view(shape))
        start += _padded(count * dtype.itemsize)
    return found


def _written(form: Form) -> Tensor:
    """As numbers: how many tensors; of each its precision, its dimensions, and its shape."""
    numbers = [len(form)]
    for shape, dtype in form:
        numbers += [DTYPES.index(dtype), len(shape), *shape]
    (room,), _ = SHAPE[0]
    assert len(numbers) <= room, "a handful of tensors"
    return torch.tensor(numbers)


def _read(numbers: list[int]) -> Form:
    form, at = [], 1
    for _ in range(numbers[0]):
        dtype, dimensions = numbers[at : at + 2]
        form.append((tuple(numbers[at + 2 : at + 2 + dimensions]), DTYPES[dtype]))
        at += 2 + dimensions
    return tuple(form)
