"""Pictures in class folders, in a directory or in a .zip, decoded to bytes of one size.

    train/CLASS/*  test/CLASS/*  [val/CLASS/*]     parts that somebody has made, or
    CLASS/*                                        one part that holds all

A class is a folder, with whatever lies below it (torchvision's ImageFolder layout); one folder around all of this is
passed over. Classes are numbered by their names in alphabetical order.
"""

import hashlib
import io
import logging
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import final

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS
from tqdm import tqdm

from costate.data.store import Arrays

PARTS = {
    **dict.fromkeys(("train", "training", "train_set", "training_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "val_set", "validation_set"), "val"),
    **dict.fromkeys(("test", "testing", "test_set"), "test"),
}
DECODER = "2"  # enters the signature: what another version decoded is decoded anew
log = logging.getLogger(__name__)

FEW = 2000  # pictures that one process decodes alone
PIECE = 4 << 20  # bytes that a process hands over at once
LISTED = 10  # files that a message names


@final
class Gallery:
    """All pictures below a folder or in a .zip, the root, which the setting `told` gives.

    Raises:
        ValueError: there is no such folder, or nothing in it is laid out in that way.
    """

    def __init__(self, root: Path, told: str):
        self.root, self.told = root, f"{told}={root}"
        if not (root.is_dir() or zipfile.is_zipfile(root)):
            raise ValueError(f"{self.told} is neither a folder nor a .zip: name the one that holds the class folders.")
        if not self.classes:
            raise ValueError(
                f"{self.told} holds no pictures in class folders: train/CLASS/*, test/CLASS/*, or CLASS/*."
            )
        if len(self.classes) < 2:
            told = f"{self.told} holds one class alone, {self.classes[0]}"
            raise ValueError(f"{told}: name the folder of two classes or more{self._below()}.")
        for part, files in self.parts.items():
            strange = sorted({file.parts[self._depth] for file in files} - set(self.classes))
            if strange:
                raise ValueError(f"{self.told}: {part} has classes that train has not: {', '.join(strange)}.")

    @cached_property
    def files(self) -> list[PurePosixPath]:
        """Of all pictures, by their names, relative to the root."""
        if self.root.is_dir():
            found = [PurePosixPath(file) for file in _within(self.root)]
        else:
            with zipfile.ZipFile(self.root) as archive:
                found = [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]
        # File managers leave hidden ones.
        hidden = {file for file in found if any(part.startswith((".", "__MACOSX")) for part in file.parts)}
        return sorted(file for file in found if file.suffix.lower() in IMG_EXTENSIONS and file not in hidden)

    @cached_property
    def parts(self) -> dict[str, list[PurePosixPath]]:
        """The pictures of each part: train, val and test as far as they are there, or `all`."""
        found: dict[str, list[PurePosixPath]] = {}
        for file in self.files:
            name = PARTS.get(file.parts[self._depth - 1].lower()) if self._divided else "all"
            if name is not None and len(file.parts) > self._depth + 1:
                found.setdefault(name, []).append(file)
        return found

    @cached_property
    def classes(self) -> list[str]:
        return sorted({f.parts[self._depth] for f in self.parts.get("train" if self._divided else "all", [])})

    def signature(self) -> str:
        """Changes when a file is exchanged, or what is made of it."""
        if self.root.is_dir():
            lines = "\n".join((DECODER, *(f"{file}:{_state(self.root / file)}" for file in self.files)))
            return hashlib.sha256(lines.encode()).hexdigest()
        return f"{DECODER}:{_state(self.root)}"

    def arrays(self, size: int, colour: bool, skip: bool, spare: Path | None = None) -> Arrays:
        """Bytes PART_x (rows, channels, size, size), labels PART_y, and the classes' names; several processes decode.

        Args:
            skip: whether what cannot be read is left out.
            spare: a folder that holds the bytes meanwhile, in place of the memory.

        Raises:
            ValueError: there is something that cannot be read, and it is not to be left out.
        """
        number = {name: i for i, name in enumerate(self.classes)}
        kind = np.uint8 if len(number) <= 256 else np.int64
        found: Arrays = {"classes": np.array([name.encode() for name in number])}
        refused: list[str] = []
        for part, files in self.parts.items():
            x = _room((len(files), 3 if colour else 1, size, size), spare)
            y: list[int] = []
            for file, picture in zip(files, self._decoded(files, size, colour), strict=True):
                if isinstance(picture, str):
                    refused.append(picture)
                else:
                    x[len(y)] = picture
                    y.append(number[file.parts[self._depth]])
            found[f"{part}_x"] = x[: len(y)]
            found[f"{part}_y"] = np.array(y, dtype=kind)
        if refused:
            self._complain(refused, skip)
        if spared := sorted(set(self.files).difference(*self.parts.values())):
            told = f"{self.told}: {len(spared)} of {len(self.files)} pictures are in no class folder of a part"
            log.warning("%s: %s; they are left out.", told, _listed(spared))
        return found

    def _complain(self, refused: Sequence[str], skip: bool) -> None:
        told = f"{self.told}: {len(refused)} of {len(self.files)} pictures cannot be read: {_listed(refused)}"
        if not skip:
            raise ValueError(f"{told}; remove them, or leave them out by data.unreadable=skip.")
        log.warning("%s; they are left out.", told)

    def _below(self) -> str:
        """Where parts are further down."""
        for file in self.files:
            for part in file.parents:
                if PARTS.get(part.name.lower()) == "train" and part.parent.name and self.root.is_dir():
                    return f", such as {self.root / part.parent}"
        return ""

    @cached_property
    def _around(self) -> int:
        """Folders around everything: one, or none."""
        tops = {file.parts[0] for file in self.files}
        inside = {file.parts[1].lower() for file in self.files if len(file.parts) > 2}
        alone = len(tops) == 1 and all(len(file.parts) > 2 for file in self.files)
        return 1 if alone and (inside & PARTS.keys() or len(inside) > 1) else 0

    @cached_property
    def _divided(self) -> bool:
        within = [file.parts[self._around :] for file in self.files]
        return any(len(parts) > 2 and PARTS.get(parts[0].lower()) == "train" for parts in within)

    @cached_property
    def _depth(self) -> int:
        """Which folder of a path is the class."""
        return self._around + self._divided

    def _decoded(self, files: Sequence[PurePosixPath], size: int, colour: bool) -> Iterator[np.ndarray | str]:
        pieces = DataLoader(
            _Decoding(self.root, files, size, "RGB" if colour else "L"),
            batch_size=max(1, PIECE // (size * size * (3 if colour else 1))),
            num_workers=min(8, os.cpu_count() or 1) if len(files) > FEW else 0,
            collate_fn=list,
            generator=torch.Generator(),  # the global one is the training's
        )
        told = f"Decoding {self.root.name}"
        with tqdm(total=len(files), desc=told, unit=" pictures", disable=None, leave=False) as bar:
            for piece in pieces:
                bar.update(len(piece))
                yield from piece


def _within(root: Path) -> Iterator[Path]:
    """All files, relative to the root; a link to a folder that it lies in is not followed, where there is no end."""
    above: dict[str, frozenset[str]] = {str(root): frozenset()}
    for at, folders, names in os.walk(root, followlinks=True):
        real, around = os.path.realpath(at), above.pop(at)
        if real in around:
            folders.clear()
            continue
        above.update({os.path.join(at, folder): around | {real} for folder in folders})
        yield from (Path(at, name).relative_to(root) for name in names)


def _state(file: Path) -> str:
    try:
        fact = file.stat()
    except OSError:  # a link to nothing, which decoding reports
        return "not there"
    return f"{fact.st_size}:{fact.st_mtime_ns}"


def _listed(files: Sequence[str | PurePosixPath]) -> str:
    more = f" and {len(files) - LISTED} more" if len(files) > LISTED else ""
    return ", ".join(map(str, files[:LISTED])) + more


def _room(shape: tuple[int, ...], spare: Path | None) -> np.ndarray:
    """Bytes to write on, in memory, or in a file without a name in that folder."""
    if spare is None:
        return np.empty(shape, dtype=np.uint8)
    with tempfile.TemporaryFile(dir=spare) as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


class _Decoding(Dataset[np.ndarray | str]):
    """Pictures by their number, or which one cannot be read, and why; every process opens the .zip for itself."""

    def __init__(self, root: Path, files: Sequence[PurePosixPath], size: int, mode: str):
        self.root, self.files, self.size, self.mode = root, files, size, mode
        self.archive: tuple[int, zipfile.ZipFile] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> np.ndarray | str:
        try:
            return decode(self._read(str(self.files[i])), self.size, self.mode)
        except Exception as fault:  # whatever the bytes lead PIL to
            reason = "no picture" if isinstance(fault, Image.UnidentifiedImageError) else str(fault)
            return f"{self.files[i]} ({reason})"

    def _read(self, name: str) -> bytes:
        if self.root.is_dir():
            return (self.root / name).read_bytes()
        if self.archive is None or self.archive[0] != os.getpid():
            self.archive = os.getpid(), zipfile.ZipFile(self.root)
        return self.archive[1].read(name)


def decode(content: bytes, size: int, mode: str) -> np.ndarray:
    """Bytes (channels, size, size): turned as the camera was held, the largest square in the middle, made as small."""
    with Image.open(io.BytesIO(content)) as file:
        file.draft(mode, (size, size))  # of a JPEG no more is decoded than that takes
        image = _eight_bits(ImageOps.exif_transpose(file), file.format).convert(mode)
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, -1).transpose(2, 0, 1)


def _eight_bits(image: Image.Image, written: str | None) -> Image.Image:
    """PIL would clip what is deeper: of 16 bits the upper eight, as PIL takes them of colours.

    Raises:
        ValueError: there are 32 bits a pixel.
    """
    # 16 bits of a .pgm, and with early versions of a .png, come as 32.
    if image.mode.startswith("I;16") or (image.mode == "I" and written in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel, of which none says what is white: save it with 8 or 16")
    return image
