"""A file of arrays (HDF5) that stands for slower source files: whole or absent, checked when read, made by one process.

A file holds its arrays, a checksum over all of them, and the signature of the source that they were made from. Arrays
that a machine's memory does not hold stay there, as `Pages`.
"""

import contextlib
import logging
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, final

import h5py
import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Int, UInt8
from torch import Tensor

log = logging.getLogger(__name__)

PIECE = 64 << 20  # bytes that are read at once where all are wanted
T = TypeVar("T")


@final
class Pages:
    """Bytes (rows, *shape) of a contiguous array in an HDF5 file, which may be replaced meanwhile, not written to."""

    dtype = torch.uint8

    def __init__(self, path: Path, name: str):
        with h5py.File(path, "r", locking=False) as file:
            array = file[name]
            assert array.dtype == np.uint8, "pictures"
            self.map = np.memmap(path, np.uint8, "r", array.id.get_offset(), array.shape)
        self.rows: Tensor = torch.arange(len(self.map))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> UInt8[Tensor, "batch *shape"]:
        return self.gather(torch.arange(len(self))[part])

    def take(self, part: Int[Tensor, " _"]) -> "Pages":
        """Those rows, still in the file."""
        other = object.__new__(Pages)
        other.map, other.rows = self.map, self.rows[part]
        return other

    def gather(self, index: Int[Tensor, " batch"]) -> UInt8[Tensor, "batch *shape"]:
        """Those rows, in memory."""
        batch = torch.empty(len(index), *self.map.shape[1:], dtype=self.dtype)
        np.take(self.map, self.rows[index].numpy(), axis=0, out=batch.numpy(), mode="clip")
        return batch

    def pieces(self) -> Iterator[UInt8[Tensor, "batch *shape"]]:
        """All rows, some at a time."""
        step = max(1, PIECE // self.map[0].nbytes)
        yield from (self[start : start + step] for start in range(0, len(self), step))


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, each made by a thread while the one before it is in use."""
    source = iter(items)
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(next, source, None)
        while (item := upcoming.result()) is not None:
            upcoming = thread.submit(next, source, None)
            yield item


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


Arrays = dict[str, np.ndarray]
Stored = dict[str, Any]
"""Arrays, or pages of them."""
SAMPLES = {f"{part}_x" for part in ("all", "train", "val", "test")}
"""Arrays that hold bytes, a row a sample."""
LAYOUT = b"1"  # enters the checksum: files of another layout count as damaged


class UnusableError(Exception):
    """Why a file cannot be used."""


def load(path: Path, source: str | None, make: Callable[[], Arrays], most: float = math.inf) -> Stored:
    """The arrays of the file, which is made, or made again, where it is absent, damaged or out of date.

    Args:
        source: signature of the source; None if the source is not there to compare with.
        make: reads the arrays from the source.
        most: bytes that they may take in memory; where they take more, samples stay in the file.

    Raises:
        ValueError: the file's folder cannot be written to.
    """
    with contextlib.suppress(FileNotFoundError, UnusableError):
        return read(path, source, most)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            try:
                return read(path, source, most)  # another process was faster
            except FileNotFoundError:
                pass
            except UnusableError as reason:
                log.warning("%s %s: making it again from the source.", path, reason)
            arrays = make()
            write(path, source, arrays)
            log.info("Converted the source into %s.", path)
            return read(path, source, most) if _bytes(arrays) > most else arrays
    except OSError as fault:
        raise ValueError(
            f"data.cache={path.parent} cannot be written to ({fault.strerror or fault}): choose another folder."
        ) from fault


def read(path: Path, source: str | None, most: float = math.inf) -> Stored:
    """The arrays of the file; larger ones than may be in memory are not checked, for which all would have to be read.

    Raises:
        FileNotFoundError: there is none.
        UnusableError: it is damaged, or was made from another source.
    """
    try:
        # Nobody writes to a file in place, and some file systems cannot lock.
        with h5py.File(path, "r", locking=False) as file:
            large = _bytes(file) > most
            arrays: Stored = {name: Pages(path, name) if large and name in SAMPLES else file[name][()] for name in file}
            expected, made_from = file.attrs["checksum"], file.attrs["source"]
    except FileNotFoundError:
        raise
    except Exception:  # h5py's errors over damaged files are of many types
        raise UnusableError("is damaged or half-written") from None
    if not large and expected != checksum(arrays):
        raise UnusableError("is damaged or half-written")
    if source is not None and made_from != source:
        raise UnusableError("was made from other source files")
    return arrays


def _bytes(arrays: Any) -> int:
    return sum(arrays[name].nbytes for name in arrays)


def write(path: Path, source: str | None, arrays: Arrays) -> None:
    """Put the file in its place in one step. The caller holds the lock."""
    partial = path.with_suffix(".partial")  # always the same name: what a killed process leaves is written over
    with h5py.File(partial, "w", libver="latest") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs["checksum"] = checksum(arrays)
        file.attrs["source"] = source or ""
    os.replace(partial, path)


def checksum(arrays: Arrays) -> int:
    """CRC-32 over names, types, shapes and contents."""
    total = zlib.crc32(LAYOUT)
    for name, array in sorted(arrays.items()):
        total = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(np.ascontiguousarray(array).data, total)
    return total
