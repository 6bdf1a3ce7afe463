"""Rows of an array that stays in its file: what a machine's memory does not hold.

The file is mapped: the system reads what is asked for, keeps in its own cache what fits there, and gives that up when
memory is wanted elsewhere. A thread reads a batch ahead. Rows come in the same order as from memory.
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
