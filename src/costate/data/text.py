"""The characters of a text, of which the next one is to be told: streams that go on from batch to batch.

n characters, B streams of n / B; batch i has steps i L, ..., (i + 1) L − 1 of each, and asks for the ones behind
"""

import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch.nn import functional as F

from costate.config.settings import Count
from costate.core.tasks import Characters
from costate.data.batches import Batch, Loader, check_share, share
from costate.data.memory import Data

HELD_STREAMS = 20
"""Streams of validation and test: long ones, each read from its beginning to its end in one batch."""


@final
@dataclass(kw_only=True, eq=False)
class Text(Data):
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

    file: str | None
    size: Count
    held: float
    length: Count

    def __post_init__(self) -> None:
        if not 0 < self.held < 0.5:
            raise ValueError(f"data.held={self.held} is a share for validation and again for the test: choose 0.05.")
        text = _library(self.size) if self.file is None else _read(self.file, self.size)
        cuts = round(len(text) * (1 - 2 * self.held)), round(len(text) * (1 - self.held))
        self.known = sorted(set(text[: cuts[0]]))
        codes = {character: i for i, character in enumerate(self.known)}
        # One more for those that are new.
        coded = torch.tensor([codes.get(character, len(codes)) for character in text])
        self.parts = dict(zip(("train", "validation", "test"), coded.tensor_split(cuts), strict=True))
        self.describe((self.length, len(codes) + 1), Characters(len(codes) + 1))
        for name, part in self.parts.items():
            streams, steps = (self.batch_size, self.length) if name == "train" else (HELD_STREAMS, 1)
            if len(part) < streams * (1 + steps):
                raise ValueError(
                    f"A part of {len(part)} characters is too short for {streams} streams: raise data.size, or lower "
                    "data.batch_size and data.length."
                )

    def train_dataloader(self) -> Loader:
        r, R = share(self)
        check_share(self.batch_size, R)
        return self._streams("train", self.batch_size, self.length, slice(r, None, R))

    def in_order(self, part: str) -> Loader:
        return self._streams(part, HELD_STREAMS, len(self.parts[part]) // HELD_STREAMS - 1, slice(None))

    def _streams(self, part: str, streams: int, length: int, own: slice) -> Loader:
        """Streams side by side, as one-hot, so many steps a batch."""
        each = len(self.parts[part]) // streams
        rows = self.parts[part][: streams * each].view(streams, each)[own]
        number = (each - 1) // length

        def batches(epoch: int, start: int) -> Iterator[Batch]:
            for i in range(start * length, number * length, length):
                seen = rows[:, i : i + length + 1]
                yield F.one_hot(seen[:, :-1], self.task.outputs).float(), seen[:, 1:].contiguous()

        return Loader(number, batches)


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
