"""Pictures of the user's own, in class folders."""

import hashlib
import math
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from costate.config.settings import Count, Share, Size
from costate.core.tasks import Classification
from costate.data import pages, store
from costate.data.augment import Kind
from costate.data.batches import Rows, gather
from costate.data.memory import InMemory, Parts, divide
from costate.data.pages import Pages
from costate.data.pictures import Gallery


@final
class Folder(InMemory):
    """Pictures in class folders, in a directory or in a .zip; decoded once, and kept in memory as bytes.

    Args:
        root: of train/CLASS/*, test/CLASS/* and perhaps val/CLASS/*, or of CLASS/* alone.
        cache: folder of the converted file.
        size: height and width of a sample, which pictures are cut and made smaller to.
        memory: share of the machine's memory that the samples may take; where they take more, batches are read from the
            file, by a thread that is a batch ahead.
        colour: whether samples have three channels, else one.
        unreadable: whether files that cannot be read are refused or left out.
        augment: how pictures of training batches are changed.
        train: training rows; null for all that are left.
        validation: share of the training pictures that is held out where there is no folder for that.
        test: the same.

    Raises:
        ValueError: there are no such folders, or (on reading) files that cannot be read.
    """

    def __init__(
        self,
        *,
        root: str | None,
        cache: str,
        size: Count,
        colour: bool,
        memory: Share,
        unreadable: Literal["refuse", "skip"],
        augment: Kind,
        train: Count | None,
        validation: Share,
        test: Share,
        batch_size: Count,
        seed: Size,
        shuffle_seed: Size,
    ):
        if root is None:
            raise ValueError("data=folder needs data.root, a folder or a .zip that holds the class folders.")
        self.gallery = Gallery(Path(root).expanduser(), "data.root")
        self.size, self.colour, self.skip = size, colour, unreadable == "skip"
        shape, task = (3 if colour else 1, size, size), Classification(len(self.gallery.classes))
        super().__init__(shape, task, batch_size=batch_size, seed=seed, shuffle_seed=shuffle_seed, augment=augment)
        self.class_names = self.gallery.classes
        kind = f"{self.gallery.root.absolute()} {shape} {self.skip}"
        name = f"{self.gallery.root.stem}_{hashlib.sha256(kind.encode()).hexdigest()[:12]}.h5"
        self.path = Path(cache).expanduser() / name
        self.most, self.shares, self.bytes = train, (validation, test), memory * pages.memory()

    def read(self) -> Parts:
        arrays = store.load(self.path, self.gallery.signature(), self._decode, self.bytes)
        there = {part: _rows(arrays, part) for part in ("all", "train", "val", "test") if f"{part}_x" in arrays}
        rows = there["train"] if "train" in there else there["all"]
        return split(rows, there.get("val"), there.get("test"), self.most, self.shares, self.seed)

    def _decode(self) -> store.Arrays:
        large = len(self.gallery.files) * math.prod(self.shape) > self.bytes
        return self.gallery.arrays(self.size, self.colour, self.skip, self.path.parent if large else None)


def split(
    rows: Rows, validation: Rows | None, test: Rows | None, train: int | None, shares: tuple[float, float], seed: int
) -> Parts:
    """Three parts; what is not there is a share of the first one, at least a row.

    Args:
        shares: of validation and test.
    """
    held, tested = (
        0 if part is not None else max(1, round(share * len(rows.y)))
        for part, share in zip((validation, test), shares, strict=True)
    )
    own = Parts(*(_take(rows, part) for part in divide(len(rows.y), train, held, tested, seed)))
    return Parts(own.train, validation or own.validation, test or own.test)


def _rows(arrays: store.Stored, part: str) -> Rows:
    x, y = (arrays[f"{part}_{name}"] for name in "xy")
    return Rows(x if isinstance(x, Pages) else torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)))


def _take(rows: Rows, part: Tensor) -> Rows:
    return Rows(rows.x.take(part) if isinstance(rows.x, Pages) else gather(rows.x, part), gather(rows.y, part))
