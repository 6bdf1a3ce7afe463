"""Rows of an array that stays in its file: what a machine's memory does not hold.

A batch is read row by row, in the order of the file, by a thread that is a batch ahead. Rows come in the same order as
from memory; the system keeps in its own cache what fits there.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, final

import h5py
import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

PIECE = 64 << 20  # bytes that are read at once where all are wanted
T = TypeVar("T")


@final
class Pages:
    """Bytes (rows, *shape) of a contiguous array in an HDF5 file.

    Args:
        path: of the file, which may be replaced meanwhile, and not written to.
        name: of the array.
    """

    dtype = torch.uint8

    def __init__(self, path: Path, name: str):
        with h5py.File(path, "r", locking=False) as file:
            array = file[name]
            assert array.dtype == np.uint8, "pictures"
            self.offset, (count, *self.shape) = array.id.get_offset(), array.shape
        self.rows: Tensor = torch.arange(count)
        self.size = int(np.prod(self.shape))
        self.file = os.open(path, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> UInt8[Tensor, "batch *shape"]:
        return self.gather(torch.arange(len(self))[part])

    def take(self, part: Int[Tensor, " _"]) -> "Pages":
        """Those rows, still in the file."""
        other = object.__new__(Pages)
        other.__dict__.update(self.__dict__, rows=self.rows[part], file=os.dup(self.file))
        return other

    def gather(self, index: Int[Tensor, " batch"]) -> UInt8[Tensor, "batch *shape"]:
        """Those rows, in memory."""
        batch = torch.empty(len(index), *self.shape, dtype=self.dtype)
        places, rows = batch.view(len(index), -1).numpy(), self.rows[index].numpy()
        for i in np.argsort(rows, kind="stable"):
            read = os.preadv(self.file, [places[i].data], self.offset + int(rows[i]) * self.size)
            if read < self.size:
                raise OSError(f"row {rows[i]} of a file of rows is cut off: was it written to?")
        return batch

    def pieces(self) -> Iterator[UInt8[Tensor, "batch *shape"]]:
        """All rows, some at a time."""
        step = max(1, PIECE // self.size)
        yield from (self[start : start + step] for start in range(0, len(self), step))

    def __del__(self) -> None:
        os.close(self.file)


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
