"""Pictures that others have collected: digits of scikit-learn, and image sets of torchvision.

These are converted once into a file of arrays, and held in memory as bytes. Source files are fetched only where they
are missing.
"""

import contextlib
import io
import logging
import os
import socket
import tempfile
from abc import ABC
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from sklearn.datasets import load_digits
from torchvision import datasets

from costate.config.settings import Count
from costate.core.tasks import Classification
from costate.core.types import Shape
from costate.data import store
from costate.data.augment import Kind, change
from costate.data.batches import Rows
from costate.data.memory import InMemory, Parts, divide
from costate.data.pictures import Gallery
from costate.data.store import Arrays

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds without an answer after which a download is given up
ADVICE = "or use data=digits, which needs no files"


@dataclass(frozen=True)
class Source:
    """The files of one data set of conf/data, in a folder below the root, and torchvision's class that reads them.

    An image is (channels, height, width); labels are 0 to classes − 1.
    """

    name: str
    reader: Any
    folder: str
    files: tuple[str, ...]
    shape: Shape
    classes: int

    def missing(self, root: Path) -> list[str]:
        return [file for file in self.files if not (root / self.folder / file).is_file()]

    def signature(self, root: Path) -> str | None:
        """Sizes and times of the files, None if some are missing: changes when a file is exchanged."""
        if self.missing(root):
            return None
        facts = {file: (root / self.folder / file).stat() for file in self.files}
        return " ".join(f"{file}:{fact.st_size}:{fact.st_mtime_ns}" for file, fact in facts.items())

    def read(self, root: Path, download: bool) -> Arrays:
        """Images as bytes (rows, channels, height, width) and labels as bytes, of both official parts.

        Raises:
            ValueError: files are missing and not to be had, or corrupt.
        """
        place = (root / self.folder).absolute()
        if self.missing(root) and download:
            self._fetch(root)
        if missing := self.missing(root):
            fate = "could not be downloaded" if download else "data.download=false"
            raise ValueError(
                f"data={self.name} lacks {', '.join(missing)} ({fate}): put the files into {place}, "
                f"or set data.root to the folder that has {self.folder} in it, {ADVICE}."
            )
        try:
            return {**self._part(root, train=True), **self._part(root, train=False)}
        except Exception as fault:  # torchvision's readers raise whatever the bytes lead them to
            raise ValueError(
                f"The files of data={self.name} in {place} are corrupt ({type(fault).__name__} while reading): "
                f"replace them, {ADVICE}."
            ) from fault

    def _fetch(self, root: Path) -> None:
        """Download what is missing; a download that breaks off leaves nothing behind."""
        patience = socket.getdefaulttimeout()
        socket.setdefaulttimeout(PATIENCE)
        # torchvision prints each mirror that fails; what matters is which files are missing afterwards.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f"{self.name}-", dir=root) as fresh:
                self.reader(fresh, download=True)
                (root / self.folder).mkdir(parents=True, exist_ok=True)
                for file in self.missing(root):
                    os.replace(Path(fresh, self.folder, file), root / self.folder / file)
        socket.setdefaulttimeout(patience)

    def _part(self, root: Path, train: bool) -> Arrays:
        data = self.reader(root, train=train, download=False)
        channels, height, width = self.shape
        images, labels = np.asarray(data.data), np.asarray(data.targets)
        fits = images.dtype == np.uint8 and images.shape[1:3] == (height, width) and len(images) == len(labels) > 0
        if not (fits and labels.min() >= 0 and labels.max() < self.classes):
            raise ValueError(f"{images.dtype} {images.shape} with labels {labels.shape}")
        # torchvision keeps colours last, and leaves grey images without an axis for them.
        images = images.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
        part = "train" if train else "test"
        return {f"{part}_x": np.ascontiguousarray(images), f"{part}_y": labels.astype(np.uint8)}


IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")


@dataclass(kw_only=True, eq=False)
class Images(InMemory, ABC):
    """An image set with an official test part; validation comes out of the training part.

    Args:
        root: folder of the source files, in torchvision's layout; only read, unless it lacks them. Where it lacks them
            and has a NAME.zip of pictures, train/CLASS/* and test/CLASS/*, these are read.
        cache: folder of the converted file.
        download: whether source files that are missing are fetched.
        train: training rows; null for all that validation leaves.
        validation: rows held out for validation.

    Raises:
        ValueError: there is no home folder for a path that begins with one; or (on reading) the source is missing or
            corrupt, or the parts ask for more rows than there are.
    """

    source: ClassVar[Source]
    root: str
    cache: str
    download: bool
    train: Count | None
    validation: Count

    def __post_init__(self) -> None:
        self.describe(self.source.shape, Classification(self.source.classes))
        self.folder = _home("data.root", self.root)
        self.path = _home("data.cache", self.cache) / f"{self.source.name}.h5"

    def read(self) -> Parts:
        if not self.folder.is_dir() and self.path.is_file():
            log.warning("data.root=%s is not there: the pictures are those of %s.", self.folder, self.path)
        source, folder = self.source, self.folder
        archive = folder / f"{source.name}.zip"
        if source.missing(folder) and archive.is_file():
            # The same pictures, one a file.
            gallery = Gallery(archive, "data.root")
            channels, size, _ = source.shape
            path = self.path.with_name(f"{source.name}_zip.h5")
            arrays = store.load(path, gallery.signature(), lambda: gallery.arrays(size, channels == 3, skip=False))
        else:
            arrays = store.load(self.path, source.signature(folder), lambda: source.read(folder, self.download))
        self.class_names = [name.decode() for name in arrays.get("classes", ())]
        learn, test = (Rows.of(arrays, part) for part in ("train", "test"))
        train, validation, _ = divide(len(learn.y), self.train, self.validation, 0, self.seed)
        return Parts(learn.take(train), learn.take(validation), test)


def _home(setting: str, path: str) -> Path:
    """The path, ~ being the user's home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{setting}={path}: there is no home folder here, for HOME is not set: set HOME, or {setting} to a folder."
        ) from error


@dataclass(kw_only=True, eq=False)
class Pictures(Images, ABC):
    """Those whose training pictures may be changed, as `augment` says."""

    augment: Kind

    def __post_init__(self) -> None:
        super().__post_init__()
        self.change = change(self.augment)


@final
class Mnist(Pictures):
    """Handwritten digits (LeCun, Cortes & Burges, 1998): 60,000 + 10,000 grey images of 28 × 28, ten classes."""

    source = Source("mnist", datasets.MNIST, "MNIST/raw", IDX, (1, 28, 28), 10)


@final
class FashionMnist(Pictures):
    """Articles of clothing (Xiao, Rasul & Vollgraf, 2017): as MNIST in every size."""

    source = Source("fashion_mnist", datasets.FashionMNIST, "FashionMNIST/raw", IDX, (1, 28, 28), 10)


@final
class Cifar10(Pictures):
    """Things and animals (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32 × 32, ten classes."""

    source = Source("cifar10", datasets.CIFAR10, "cifar-10-batches-py", BATCHES, (3, 32, 32), 10)


@final
class Cifar100(Pictures):
    """As CIFAR-10 in size, with a hundred classes (Krizhevsky, 2009)."""

    source = Source("cifar100", datasets.CIFAR100, "cifar-100-python", ("train", "test", "meta"), (3, 32, 32), 100)


@final
@dataclass(kw_only=True, eq=False)
class Digits(InMemory):
    """1797 images of 8 × 8 with values 0 to 16, ten classes (Alpaydin & Kaynak, UCI, 1998): no files, no network.

    Args:
        train: training rows; null for all that validation and test leave.

    Raises:
        ValueError: (on reading) the parts ask for more rows than there are.
    """

    train: Count | None
    validation: Count
    test: Count

    def __post_init__(self) -> None:
        self.describe((1, 8, 8), Classification(10))

    def read(self) -> Parts:
        images, labels = load_digits(return_X_y=True)
        rows = Rows(torch.from_numpy(images).to(torch.uint8).view(-1, *self.shape), torch.from_numpy(labels).long())
        return Parts(*map(rows.take, divide(len(labels), self.train, self.validation, self.test, self.seed)))
