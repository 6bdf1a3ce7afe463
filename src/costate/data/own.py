"""Data of the user's own: pictures in class folders, a LightningDataModule, or Datasets of torch."""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, final

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from costate.config import lookup
from costate.config.settings import Count, Share, Size
from costate.core.tasks import Classification, Regression, Task
from costate.data import store
from costate.data.augment import Kind
from costate.data.batches import Rows
from costate.data.memory import InMemory, Parts, divide
from costate.data.pictures import Gallery

PIECE = 256  # samples that are stacked at once


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
        self.most, self.shares, self.bytes = train, (validation, test), memory * store.memory()

    def read(self) -> Parts:
        arrays = store.load(self.path, self.gallery.signature(), self._decode, self.bytes)
        there = {part: Rows.of(arrays, part) for part in ("all", "train", "val", "test") if f"{part}_x" in arrays}
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
    own = Parts(*map(rows.take, divide(len(rows.y), train, held, tested, seed)))
    return Parts(own.train, validation or own.validation, test or own.test)


@final
class Module(InMemory):
    """What a function returns, a LightningDataModule or Datasets, read once into memory.

    A sample is a pair (x, y) of tensors or numbers; y is a class (an integer) or what a regression is to give (floats).
    Batches are dealt out by seed as those of any data set here, so that runs can be resumed and shared by processes:
    what a Dataset draws at random for itself is drawn once, so random changes belong into `augment`.

    Args:
        module: package.module:function.
        settings: its arguments.
        classes: how many there are; null: one more than the highest label of the training samples.
        train: training rows; null for all that are left.
        validation: share of the training samples that is held out where the function returns none.
        test: the same.

    Raises:
        ValueError: there is no such function, or it returns something else.
    """

    def __init__(
        self,
        *,
        module: str | None,
        settings: dict[str, Any] | None,
        classes: Count | None,
        augment: Kind,
        train: Count | None,
        validation: Share,
        test: Share,
        batch_size: Count,
        seed: Size,
        shuffle_seed: Size,
    ):
        told = f"data.module={module}"
        rows, held, tested = parts(told, lookup.call("data", module, settings or {}, {}))
        self.own = split(rows, held, tested, train, (validation, test), seed)
        task = _task(told, rows, classes)
        shape = tuple(rows.x[:1].shape[1:])
        super().__init__(shape, task, batch_size=batch_size, seed=seed, shuffle_seed=shuffle_seed, augment=augment)

    def read(self) -> Parts:
        return self.own


def parts(told: str, found: Any) -> tuple[Rows, Rows | None, Rows | None]:
    """Rows for training, validation and test, of which the last two may not be there.

    Raises:
        ValueError: what was found is no data, or its samples are no pairs of tensors of one shape.
    """
    if isinstance(found, LightningDataModule):
        found.prepare_data()
        for stage in ("fit", "test"):
            found.setup(stage)
        names = ("train_dataloader", "val_dataloader", "test_dataloader")
        loaders = [
            getattr(found, name)() if is_overridden(name, found, LightningDataModule) else None for name in names
        ]
    elif isinstance(found, Sequence) and len(found) in (2, 3):
        loaders = [found[0], *([None] if len(found) == 2 else []), *found[1:]]
    else:
        loaders = [None]
    if loaders[0] is None or not all(part is None or isinstance(part, Dataset | DataLoader) for part in loaders):
        raise ValueError(
            f"{told} returns {type(found).__name__}, and not a LightningDataModule with DataLoaders, nor Datasets "
            f"(train, test) or (train, validation, test)."
        )
    train, validation, test = (None if part is None else _read(told, part) for part in loaders)
    assert train is not None, "looked at above"
    return train, validation, test


def _read(told: str, source: Dataset[Any] | DataLoader[Any]) -> Rows:
    """All samples, in the order of their Dataset."""
    collate: Callable[[Any], Any] = default_collate
    if isinstance(source, DataLoader):
        collate = source.collate_fn
        source = source.dataset
    pieces: list[tuple[Tensor, Tensor]] = []
    try:
        # The global generator is the training's.
        for batch in DataLoader(source, batch_size=PIECE, collate_fn=collate, generator=torch.Generator()):
            x, y = batch
            pieces.append((x, y))
        x, y = (torch.cat(column) for column in zip(*pieces, strict=True))
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{told}: samples have to be pairs (x, y) of tensors of one shape: {reason}.") from error
    if y.is_floating_point():
        y = y.float().view(len(y), -1)
    return Rows(x if x.dtype == torch.uint8 else x.float(), y if y.is_floating_point() else y.long())


def _task(told: str, rows: Rows, classes: int | None) -> Task:
    if rows.y.is_floating_point():
        return Regression(rows.y.shape[1])
    if rows.y.ndim != 1 or rows.y.min() < 0:
        raise ValueError(f"{told}: labels {tuple(rows.y.shape)} are neither classes from 0 on nor floats.")
    there = int(rows.y.max()) + 1
    if classes is not None and classes < there:
        raise ValueError(f"data.classes={classes} is too few: {told} has labels up to {there - 1}.")
    return Classification(classes or there)
