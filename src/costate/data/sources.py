"""Where images come from: files in torchvision's layout, read as arrays, fetched only where they are missing."""

import contextlib
import io
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from costate.core.types import Shape
from costate.data.store import Arrays

PATIENCE = 10.0  # seconds without an answer after which a download is given up
ADVICE = "or use data=digits, which needs no files"


@dataclass(frozen=True)
class Source:
    """The files of one data set.

    Args:
        name: of the data set in conf/data.
        reader: torchvision's class for it.
        folder: of the files, below the root.
        files: their names.
        shape: of one image, (channels, height, width).
        classes: labels are 0 to classes − 1.
    """

    name: str
    reader: Any
    folder: str
    files: tuple[str, ...]
    shape: Shape
    classes: int

    def missing(self, root: Path) -> list[str]:
        """The files that are not there."""
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
