"""Data of the user's own: pictures in class folders, a LightningDataModule, or Datasets of torch."""

import hashlib
import math
import operator
import random
from abc import ABC
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from costate.config import lookup
from costate.config.settings import Count, Share
from costate.core.tasks import Classification, Regression, Task
from costate.data import store
from costate.data.augment import Kind, change
from costate.data.batches import Rows
from costate.data.memory import InMemory, Parts, divide
from costate.data.pictures import Gallery

PIECE = 256  # samples that are stacked at once


@dataclass(kw_only=True, eq=False)
class Own(InMemory, ABC):
    """Data that may come in parts: what is not there is a share of the training rows.

    Args:
        augment: how pictures of training batches are changed.
        train: training rows; null for all that are left.
        validation: share of the training rows that is held out where there is no part for that.
        test: the same.
    """

    augment: Kind
    train: Count | None
    validation: Share
    test: Share

    def split(self, rows: Rows, validation: Rows | None, test: Rows | None) -> Parts:
        """Three parts; a share is a row at least."""
        held, tested = (
            0 if part is not None else max(1, round(share * len(rows.y)))
            for part, share in ((validation, self.validation), (test, self.test))
        )
        own = Parts(*map(rows.take, divide(len(rows.y), self.train, held, tested, self.seed)))
        return Parts(own.train, validation or own.validation, test or own.test)


@final
@dataclass(kw_only=True, eq=False)
class Folder(Own):
    """Pictures in class folders, in a directory or in a .zip; decoded once, and kept in memory as bytes.

    Args:
        root: of train/CLASS/*, test/CLASS/* and perhaps val/CLASS/*, or of CLASS/* alone.
        cache: folder of the converted file.
        size: height and width of a sample, which pictures are cut and made smaller to.
        memory: share of the machine's memory that the samples may take; where they take more, batches are read from the
            file, by a thread that is a batch ahead.
        colour: whether samples have three channels, else one.
        unreadable: whether files that cannot be read are refused or left out.

    Raises:
        ValueError: there are no such folders, or (on reading) files that cannot be read.
    """

    root: str | None
    cache: str
    size: Count
    memory: Share
    colour: bool
    unreadable: Literal["refuse", "skip"]

    def __post_init__(self) -> None:
        if self.root is None:
            raise ValueError("data=folder needs data.root, a folder or a .zip that holds the class folders.")
        self.gallery = Gallery(Path(self.root).expanduser(), "data.root")
        shape = (3 if self.colour else 1, self.size, self.size)
        self.describe(shape, Classification(len(self.gallery.classes)))
        self.change = change(self.augment)
        self.class_names = self.gallery.classes
        kind = f"{self.gallery.root.absolute()} {shape} {self.unreadable == 'skip'}"
        name = f"{self.gallery.root.stem}_{hashlib.sha256(kind.encode()).hexdigest()[:12]}.h5"
        self.path = Path(self.cache).expanduser() / name
        self.bytes = self.memory * store.memory()

    def read(self) -> Parts:
        arrays = store.load(self.path, self.gallery.signature(), self._decode, self.bytes)
        there = {part: Rows.of(arrays, part) for part in ("all", "train", "val", "test") if f"{part}_x" in arrays}
        return self.split(there.get("train") or there["all"], there.get("val"), there.get("test"))

    def _decode(self) -> store.Arrays:
        large = len(self.gallery.files) * math.prod(self.shape) > self.bytes
        spare = self.path.parent if large else None
        return self.gallery.arrays(self.size, self.colour, self.unreadable == "skip", spare)


@final
@dataclass(kw_only=True, eq=False)
class Module(Own):
    """What a function returns, a LightningDataModule or Datasets, read once into memory.

    A sample is a pair (x, y) of tensors or numbers; y is a class (an integer) or what a regression is to give (floats).
    Batches are dealt out by seed as those of any data set here, so that runs can be resumed and shared by processes:
    what a Dataset draws at random for itself is drawn once, so random changes belong into `augment`. Whatever the
    function draws, with torch, numpy or Python, it draws by `seed`.

    Args:
        module: package.module:function.
        settings: its arguments.
        classes: how many there are; null: one more than the highest label.

    Raises:
        ValueError: there is no such function, it returns something else, or what is no picture is to be changed.
    """

    module: str | None
    settings: dict[str, Any] | None
    classes: Count | None

    def __post_init__(self) -> None:
        told = f"data.module={self.module}"
        with isolate_rng():
            # What it draws is drawn alike in each process, in a resumed run and when the run is looked at: else rows of
            # one's test are another's to train on.
            for seed in (torch.manual_seed, np.random.seed, random.seed):
                seed(self.seed)
            rows, *others = parts(told, lookup.call("data", self.module, self.settings or {}, {}))
        self.own = self.split(rows, *others)
        self.describe(
            tuple(rows.x[:1].shape[1:]),
            _task(told, [rows, *(part for part in others if part is not None)], self.classes),
        )
        if self.augment != "none" and len(self.shape) != 3:
            raise ValueError(
                f"data.augment={self.augment} is for pictures, and samples are {self.shape}: use data.augment=none."
            )
        self.change = change(self.augment)

    def read(self) -> Parts:
        return self.own


def parts(told: str, found: Any) -> tuple[Rows, Rows | None, Rows | None]:
    """Rows for training, validation and test, of which the last two may not be there.

    Raises:
        ValueError: what was found is no data, or its samples are no pairs of tensors of one shape and kind.
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
    for name, part in (("validation", validation), ("test", test)):
        if part is not None:
            _compare(told, train, name, part)
    return train, validation, test


def _read(told: str, source: Dataset[Any] | DataLoader[Any]) -> Rows:
    """All samples, in the order of their Dataset."""
    data, collate = (_given(told, source), source.collate_fn) if isinstance(source, DataLoader) else (source, None)
    try:
        # The global generator is the training's.
        loader = DataLoader(data, batch_size=PIECE, collate_fn=collate, generator=torch.Generator())
        pieces = [(x, y) for x, y in loader]
        x, y = (torch.cat(column) for column in zip(*pieces, strict=True))
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{told}: samples have to be pairs (x, y) of tensors of one shape: {reason}.") from error
    y = y.float().view(len(y), -1) if y.is_floating_point() else y.long()
    return Rows(x if x.dtype == torch.uint8 else x.float(), y)


def _given(told: str, loader: DataLoader[Any]) -> Dataset[Any]:
    """The rows that a DataLoader's sampler gives, which may be one part of three of its Dataset.

    Raises:
        ValueError: they are other ones each time, or are there several times.
    """
    data, batches, sampler = loader.dataset, loader.batch_sampler, loader.sampler
    if isinstance(data, IterableDataset):
        return data
    if isinstance(batches, BatchSampler):
        sampler = batches.sampler  # the loader's own one is another where batch_sampler was given
    if isinstance(sampler, DistributedSampler):
        return data  # all processes' rows together
    own = type(batches) in (BatchSampler, type(None))
    if own and isinstance(sampler, SequentialSampler | RandomSampler):
        return Subset(data, range(len(sampler.data_source)))
    rows = _drawn(sampler, len(data)) if own else None  # type: ignore[arg-type]
    if rows is None:
        strange = sampler if own else batches
        raise ValueError(
            f"{told}: {type(strange).__name__} draws rows as it goes, and here data.shuffle_seed deals them out: "
            f"return Datasets, of the rows of each part."
        )
    return Subset(data, rows)


def _drawn(sampler: Iterable[Any], most: int) -> list[int] | None:
    """The rows of a sampler that gives the same ones each time, each once."""
    with torch.random.fork_rng(devices=[]):  # the global generator is the training's
        try:
            # Some never end.
            once, again = (sorted(map(operator.index, islice(sampler, most + 1))) for _ in range(2))
        except TypeError:  # batches, or names
            return None
    return once if once == again and len(set(once)) == len(once) else None


def _compare(told: str, train: Rows, name: str, part: Rows) -> None:
    """What the network and the standardisation are made for is the training part."""
    for what, *pair in (("samples", train.x, part.x), ("labels", train.y, part.y)):
        ours, theirs = (f"{tuple(tensor[:1].shape[1:])} of {tensor.dtype}" for tensor in pair)
        if ours != theirs:
            raise ValueError(f"{told}: {name} {what} are {theirs}, and training {what} {ours}: make them alike.")


def _task(told: str, parts: Sequence[Rows], classes: int | None) -> Task:
    y = parts[0].y
    if y.is_floating_point():
        return Regression(y.shape[1])
    for part in parts:
        if part.y.ndim != 1 or part.y.min() < 0:
            raise ValueError(f"{told}: labels {tuple(part.y.shape)} are neither classes from 0 on nor floats.")
    there = 1 + max(int(part.y.max()) for part in parts)
    if classes is not None and classes < there:
        raise ValueError(f"data.classes={classes} is too few: {told} has labels up to {there - 1}.")
    return Classification(classes or there)
