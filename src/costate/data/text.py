"""The characters of a text, of which the next one is to be told: streams that go on from batch to batch.

n characters, B streams of n / B; batch i has steps i L, ..., (i + 1) L − 1 of each, and asks for the ones behind
"""

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import final

import torch
from jaxtyping import Int
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn import functional as F

from costate.config.settings import Count, Size
from costate.core.tasks import Characters
from costate.data.batches import Places, check_share, share

HELD_STREAMS = 20
"""Streams of validation and test: long ones, each read from its beginning to its end in one batch."""


@final
class Text(LightningDataModule):
    """A text in three parts, one behind the other; characters that the training part has not are all one.

    By default it is the source of Python's standard library: the modules at its top, in alphabetical order.

    Args:
        file: another text, in UTF-8; null for the default.
        size: characters that are read, from the beginning.
        held: share of them for validation, and again for the test.
        length: steps in a batch.
        batch_size: streams, of all processes together.
        seed: nothing is drawn; the contract of all data sets has it.

    Raises:
        ValueError: the text cannot be read, or is too short for its streams.
    """

    def __init__(
        self,
        *,
        file: str | None,
        size: Count,
        held: float,
        length: Count,
        batch_size: Count,
        seed: Size,
        shuffle_seed: Size,
    ):
        super().__init__()
        if not 0 < held < 0.5:
            raise ValueError(f"data.held={held} is a share for validation and again for the test: choose 0.05.")
        text = _library(size) if file is None else _read(file, size)
        cuts = round(len(text) * (1 - 2 * held)), round(len(text) * (1 - held))
        train = text[: cuts[0]]
        self.known = sorted(set(train))
        self.length, self.batch_size, self.rows = length, batch_size, None
        codes = {character: i for i, character in enumerate(self.known)}
        # One more for those that are new.
        coded = torch.tensor([codes.get(character, len(codes)) for character in text])
        self.parts = coded[: cuts[0]], coded[cuts[0] : cuts[1]], coded[cuts[1] :]
        self.task = Characters(len(codes) + 1)
        self.shape = (length, len(codes) + 1)
        for streams, part in zip((batch_size, HELD_STREAMS, HELD_STREAMS), self.parts, strict=True):
            if len(part) < streams * (1 + (length if part is self.parts[0] else 1)):
                raise ValueError(
                    f"A part of {len(part)} characters is too short for {streams} streams: raise data.size, or lower "
                    "data.batch_size and data.length."
                )

    def train_dataloader(self) -> Places:
        r, R = share(self)
        check_share(self.batch_size, R)
        return _Streams(self.parts[0], self.batch_size, self.length, self.task.outputs, slice(r, None, R))

    def val_dataloader(self) -> Places:
        return self._whole(self.parts[1])

    def test_dataloader(self) -> Places:
        return self._whole(self.parts[2])

    def _whole(self, part: Tensor) -> Places:
        return _Streams(part, HELD_STREAMS, len(part) // HELD_STREAMS - 1, self.task.outputs, slice(None))


class _Streams(Places):
    """Streams side by side, as one-hot, so many steps a batch."""

    def __init__(self, text: Int[Tensor, " n"], streams: int, length: int, classes: int, own: slice):
        super().__init__()
        each = len(text) // streams
        self.text = text[: streams * each].view(streams, each)[own]
        self.length, self.classes = length, classes

    def __len__(self) -> int:
        return (self.text.shape[1] - 1) // self.length

    def batches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(start * self.length, len(self) * self.length, self.length):
            part = self.text[:, i : i + self.length + 1]
            yield F.one_hot(part[:, :-1], self.classes).float(), part[:, 1:].contiguous()


def _library(size: int) -> str:
    """The source of Python's standard library, as far as it goes."""
    text = ""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += path.read_text(encoding="utf-8", errors="replace")
        if len(text) >= size:
            break
    return text[:size]


def _read(file: str, size: int) -> str:
    try:
        return Path(file).expanduser().read_text(encoding="utf-8", errors="replace")[:size]
    except OSError as error:
        raise ValueError(f"data.file={file} cannot be read: {error.strerror}.") from error
