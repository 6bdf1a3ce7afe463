"""In fewer bytes: states and letters, whatever a method sends (`Coding`), and gradients, where they are sent (`Sign`).

    t   a row of a state, or of a gradient g, of d numbers
    s   max |t|, sent beside the row in float32
    g̃   what is read of a compressed g

    full      t                       bf16   t in bfloat16
    float16   t / s in float16        int8   round(127 t / s), one byte a number

A row of a gradient of the mean loss may be so small that float16 loses it: hence s. Rows are samples, and an error that
one sample leaves is of no use to the next: so nothing is fed back. Whole numbers and single numbers stay as they are.
"""

from abc import ABC, abstractmethod
from typing import Literal, final

import torch
from torch import Tensor

from costate.config.settings import Share
from costate.core.post import Gradient, Letter, Passage, Post, Reply
from costate.core.types import State

Precision = Literal["full", "bf16", "float16", "int8"]


class Coding(ABC):
    """How a tensor of rows travels: as a few tensors of as many rows."""

    @abstractmethod
    def pack(self, t: Tensor) -> Letter:
        """What travels."""

    @abstractmethod
    def unpack(self, parts: Letter, like: Tensor) -> Tensor:
        """The tensor again, in the shape and precision of another one."""

    def round_trip(self, t: Tensor) -> Tensor:
        """As the other side reads it."""
        return self.unpack(self.pack(t), t)


@final
class Cast(Coding):
    """In numbers of another precision, or as it is."""

    def __init__(self, dtype: torch.dtype | None):
        self.dtype = dtype

    def pack(self, t: Tensor) -> Letter:
        return (t if self.dtype is None else t.to(self.dtype),)

    def unpack(self, parts: Letter, like: Tensor) -> Tensor:
        return parts[0].to(like.dtype)


@final
class Scaled(Coding):
    """In numbers of so many steps from 0 to the largest one of each row."""

    def __init__(self, dtype: torch.dtype, steps: int):
        self.dtype, self.steps = dtype, steps

    def pack(self, t: Tensor) -> Letter:
        s = t.flatten(1).abs().amax(dim=1).float()
        scale = (self.steps / s).to(t.dtype)
        # A row so small that its scale is none is nothing.
        s, scale = torch.where(scale.isinf(), 0, s), torch.where(scale.isinf(), 1, scale)
        parts = t * scale.view(-1, *[1] * (t.dim() - 1))
        return s, (parts if self.dtype.is_floating_point else parts.round()).to(self.dtype)

    def unpack(self, parts: Letter, like: Tensor) -> Tensor:
        s, numbers = parts
        return numbers.to(like.dtype) * (s / self.steps).to(like.dtype).view(-1, *[1] * (like.dim() - 1))


@final
class Coded(Post):
    """Another post, whose letters travel in fewer bytes."""

    def __init__(self, post: Post, coding: Coding):
        self.post, self.coding = post, coding
        self.gradients = post.gradients  # type: ignore[misc]

    def write(self, passage: Passage) -> Letter:
        return self._packed(self.post.write(passage))

    def room(self, h: State) -> Letter:
        return self._packed(self.post.room(h))

    def read(self, letter: Letter, h: State) -> Reply:
        left, read = list(letter), []
        for like in self.post.room(h):
            count = len(self.coding.pack(like[:1])) if _long(like) else 1
            parts, left = tuple(left[:count]), left[count:]
            read.append(self.coding.unpack(parts, like) if _long(like) else parts[0])
        return self.post.read(tuple(read), h)

    def _packed(self, letter: Letter) -> Letter:
        return tuple(part for t in letter for part in (self.coding.pack(t) if _long(t) else (t,)))


def _long(t: Tensor) -> bool:
    return t.is_floating_point() and t.dim() > 1


def coding(precision: Precision) -> Coding:
    """As a run's execution is set."""
    scaled = {"float16": Scaled(torch.float16, 1), "int8": Scaled(torch.int8, 127)}
    return scaled.get(precision) or Cast(torch.bfloat16 if precision == "bf16" else None)


BITS = 8
Compress = Literal["none", "sign", "topk"]


@final
class Sign(Post):
    """g̃ = sign(g) · mean |g| of each sample: d/8 + 4 bytes (Bernstein et al., 2018, 1802.04434, with a scale)."""

    def write(self, passage: Passage) -> Letter:
        g = passage.g.flatten(1)
        bits = torch.nn.functional.pad(g >= 0, (0, -g.shape[1] % BITS)).unflatten(1, (-1, BITS))
        return g.abs().mean(dim=1), (bits * _places(g)).sum(dim=2, dtype=torch.uint8)

    def room(self, h: State) -> Letter:
        d = h[0].numel()
        return h.new_empty(len(h)), torch.empty(len(h), -(-d // BITS), dtype=torch.uint8, device=h.device)

    def read(self, letter: Letter, h: State) -> Reply:
        size, packed = letter
        bits = (packed[:, :, None] & _places(packed)).ne(0).flatten(1)[:, : h[0].numel()]
        return Reply(torch.where(bits, size[:, None], -size[:, None]).view_as(h))


@final
class Largest(Post):
    """g̃: the share of each sample's entries that are largest in size, the others 0 (Aji & Heafield, 2017, 1704.05021).

    Args:
        share: of the d entries, one at least; each costs its number and its place, 6 or 8 bytes.
    """

    def __init__(self, share: Share):
        self.share = share

    def write(self, passage: Passage) -> Letter:
        g = passage.g.flatten(1)
        places = g.abs().topk(self._count(g), dim=1, sorted=False).indices
        return g.gather(1, places), places.to(_index(g))

    def room(self, h: State) -> Letter:
        row = h.flatten(1)
        size = len(h), self._count(row)
        return h.new_empty(size), torch.empty(size, dtype=_index(row), device=h.device)

    def read(self, letter: Letter, h: State) -> Reply:
        values, places = letter
        g = values.new_zeros(h.flatten(1).shape).scatter(1, places.long(), values)
        return Reply(g.view_as(h))

    def _count(self, row: Tensor) -> int:
        return max(1, round(self.share * row.shape[1]))


def _places(like: Tensor) -> Tensor:
    return 2 ** torch.arange(BITS, dtype=torch.uint8, device=like.device)


def _index(row: Tensor) -> torch.dtype:
    return torch.int16 if row.shape[1] <= torch.iinfo(torch.int16).max else torch.int32


def compressed(compress: Compress, share: Share) -> Post:
    """The post of a method that sends gradients, as it is set."""
    return {"none": Gradient(), "sign": Sign(), "topk": Largest(share)}[compress]
