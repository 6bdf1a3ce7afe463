"""Files that are there whole or not at all, whatever ends the process that writes them; and metrics.csv, which grows
line by line, read as far as its lines are whole. Light: imports no torch.

A file is written beside the one that it replaces: a temporary folder may lie on another file system, from which it
could only be copied, byte by byte over the good one.
"""

import contextlib
import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple


def beside(path: Path) -> Path:
    """Where the successor of a file is written; always the same name, so that what is left there is written over."""
    return path.with_name(f"{path.name}.new")


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write `path` in: on the disk when the block ends, and gone if the block fails.

    Raises:
        ValueError: there is no room, or the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as fault:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        if isinstance(fault, OSError):
            raise ValueError(f"{path} cannot be written ({fault.strerror or fault}).") from fault
        raise


def replace(path: Path) -> None:
    """Puts what lies `beside` a file in its place."""
    os.replace(beside(path), path)
    with contextlib.suppress(OSError):  # some file systems have no folders that can be flushed
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write(path: Path, text: str) -> None:
    """Puts a text in the place of a file.

    Raises:
        ValueError: there is no room, or the folder cannot be written to.
    """
    with writing(beside(path)) as file:
        file.write(text.encode())
    replace(path)


class Column(NamedTuple):
    """One metric over a run: batches that were done, and values."""

    steps: list[int]
    values: list[float]


def columns(file: Path) -> dict[str, Column]:
    """By their names; lines that make no sense are left out."""
    found: dict[str, Column] = {}
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else ()
    # Python 3.10 reads no line with the zero bytes that a crash leaves.
    for row in csv.DictReader(line for line in lines if "\0" not in line):
        # A line that is being written is too short yet, and its last number as well.
        with contextlib.suppress(KeyError, TypeError, ValueError):
            step = int(row.pop("step"))
            for name, value in [(name, float(value)) for name, value in row.items() if value != ""]:
                column = found.setdefault(name, Column([], []))
                column.steps.append(step + 1)
                column.values.append(value)
    return found
