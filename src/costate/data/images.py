"""Image sets of torchvision, converted once into a file of arrays and held in memory as bytes."""

import logging
from abc import ABC
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from costate.config.settings import Count, Size
from costate.core.tasks import Classification
from costate.data import store
from costate.data.augment import Kind
from costate.data.batches import Rows, gather
from costate.data.memory import InMemory, Parts, divide
from costate.data.pictures import Gallery
from costate.data.sources import Source

log = logging.getLogger(__name__)

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class Images(InMemory, ABC):
    """An image set with an official test part; validation comes out of the training part.

    Args:
        root: folder of the source files, in torchvision's layout; only read, unless it lacks them. Where it lacks them
            and has a NAME.zip of pictures, train/CLASS/* and test/CLASS/*, these are read.
        cache: folder of the converted file.
        download: whether source files that are missing are fetched.
        train: training rows; null for all that validation leaves.
        validation: rows held out for validation.
        augment: how pictures of training batches are changed.

    Raises:
        ValueError: there is no home folder for a path that begins with one; or (on reading) the source is missing or
            corrupt, or the parts ask for more rows than there are.
    """

    source: Source

    def __init__(
        self,
        *,
        root: str,
        cache: str,
        download: bool,
        train: Count | None,
        validation: Count,
        batch_size: Count,
        augment: Kind,
        seed: Size,
        shuffle_seed: Size,
    ):
        task, shape = Classification(self.source.classes), self.source.shape
        super().__init__(shape, task, batch_size=batch_size, seed=seed, shuffle_seed=shuffle_seed, augment=augment)
        self.root = _home("data.root", root)
        self.path = _home("data.cache", cache) / f"{self.source.name}.h5"
        self.download = download
        self.sizes = train, validation

    def read(self) -> Parts:
        if not self.root.is_dir() and self.path.is_file():
            log.warning("data.root=%s is not there: the pictures are those of %s.", self.root, self.path)
        archive = self.root / f"{self.source.name}.zip"
        if self.source.missing(self.root) and archive.is_file():
            # The same pictures, one a file.
            gallery = Gallery(archive, "data.root")
            size, colour = self.source.shape[1], self.source.shape[0] == 3
            path = self.path.with_name(f"{self.source.name}_zip.h5")
            arrays = store.load(path, gallery.signature(), lambda: gallery.arrays(size, colour, skip=False))
        else:
            arrays = store.load(
                self.path, self.source.signature(self.root), lambda: self.source.read(self.root, self.download)
            )
        self.class_names = [name.decode() for name in arrays.get("classes", ())]
        learn, test = (_rows(arrays[f"{part}_x"], arrays[f"{part}_y"]) for part in ("train", "test"))
        train, validation, _ = divide(len(learn.y), *self.sizes, 0, self.seed)
        return Parts(_take(learn, train), _take(learn, validation), test)


def _home(setting: str, path: str) -> Path:
    """The path, ~ being the user's home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{setting}={path}: there is no home folder here, for HOME is not set: set HOME, or {setting} to a folder."
        ) from error


def _rows(images: np.ndarray, labels: np.ndarray) -> Rows:
    return Rows(torch.from_numpy(images), torch.from_numpy(labels).long())


def _take(rows: Rows, part: Tensor) -> Rows:
    return Rows(gather(rows.x, part), gather(rows.y, part))


class Mnist(Images):
    """Handwritten digits (LeCun, Cortes & Burges, 1998): 60,000 + 10,000 grey images of 28 × 28, ten classes."""

    source = Source("mnist", datasets.MNIST, "MNIST/raw", IDX, (1, 28, 28), 10)


class FashionMnist(Images):
    """Articles of clothing (Xiao, Rasul & Vollgraf, 2017): as MNIST in every size."""

    source = Source("fashion_mnist", datasets.FashionMNIST, "FashionMNIST/raw", IDX, (1, 28, 28), 10)


class Cifar10(Images):
    """Things and animals (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32 × 32, ten classes."""

    source = Source(
        "cifar10",
        datasets.CIFAR10,
        "cifar-10-batches-py",
        (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
        (3, 32, 32),
        10,
    )


class Cifar100(Images):
    """As CIFAR-10 in size, with a hundred classes (Krizhevsky, 2009)."""

    source = Source("cifar100", datasets.CIFAR100, "cifar-100-python", ("train", "test", "meta"), (3, 32, 32), 100)
