"""How long a full pass over MNIST takes: the data module's loaders against `DataLoader(TensorDataset)`, in pairs."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable

import torch
from torch.utils.data import DataLoader, TensorDataset

from costate.benchmarks import epochs
from costate.data.images import Mnist

PAIRS = 7
BATCH_SIZES = 128, 256
THREADS = 1, 2
arguments = epochs.arguments


def run(options: argparse.Namespace) -> None:
    """Print a table of seconds per pass over the 60,000 training images (training and validation rows).

    Raises:
        ValueError: MNIST is not there.
    """
    before = torch.get_num_threads()
    print(f"A pass over MNIST, seconds, median of {PAIRS} pairs (worst in brackets)")
    print(f"{'batch':>5} {'threads':>7} {'data module':>16} {'TensorDataset':>16} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as cache:
        for batch_size in BATCH_SIZES:
            data = Mnist(
                root=options.root,
                cache=cache,
                download=True,
                train=None,
                validation=5000,
                batch_size=batch_size,
                augment="none",
                seed=0,
                shuffle_seed=0,
            )
            data.setup()
            for threads in THREADS:
                torch.set_num_threads(threads)
                print(f"{batch_size:>5} {threads:>7} {_row(data, batch_size)}", flush=True)
    torch.set_num_threads(before)


def _row(data: Mnist, batch_size: int) -> str:
    """Seconds of both readers, measured alternately, and their ratio within a pair."""
    assert data.parts
    rows = data.parts.train, data.parts.validation
    x = torch.cat([data.prepare(part.x[:]) for part in rows])
    plain = DataLoader(TensorDataset(x, torch.cat([part.y for part in rows])), batch_size, shuffle=True)
    ours, theirs = [], []
    for _ in range(PAIRS):
        ours.append(_seconds(data.train_dataloader()) + _seconds(data.val_dataloader()))
        theirs.append(_seconds(plain))
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return f"{_show(ours):>16} {_show(theirs):>16} {ratio:>6.1f}"


def _show(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} ({max(seconds):.3f})"


def _seconds(loader: Iterable) -> float:
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start
