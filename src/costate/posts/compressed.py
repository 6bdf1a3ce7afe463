"""Gradients in fewer bytes.

    d   numbers of a sample's gradient
    g̃   what is read

They are compressed where they are sent.
"""

from typing import Literal, final

import torch
from torch import Tensor

from costate.config.settings import Share
from costate.posts.base import Letter, Passage, Post, Reply
from costate.posts.gradient import Gradient
from costate.types import State

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
