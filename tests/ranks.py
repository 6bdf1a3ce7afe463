"""Runs a function on several ranks over gloo, each a process with one thread."""

import datetime
import io
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from composing import PRODUCTS

# One server imports what takes long, and every rank is forked from it.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "composing", "costate.training.module", "costate.execution.replicas"])


def on_ranks(ranks: int, folder: Path, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What function(*arguments) returns on each rank; the ranks meet in a file of the folder."""
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with ProcessPoolExecutor(ranks, CONTEXT) as pool:
        work = [pool.submit(_work, rank, ranks, folder, PRODUCTS, function, arguments) for rank in range(ranks)]
        return [torch.load(io.BytesIO(done.result()), weights_only=False) for done in work]


def _work(
    rank: int, ranks: int, folder: Path, products: Any, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> bytes:
    PRODUCTS.update(products)
    torch.set_num_threads(1)
    minute = datetime.timedelta(minutes=1)
    dist.init_process_group("gloo", f"file://{folder}/ranks", timeout=minute, rank=rank, world_size=ranks)
    buffer = io.BytesIO()
    torch.save(function(*arguments), buffer)
    # The group ends with its process: torch 2.6 can hang for ever in destroying one that has only just been used.
    return buffer.getvalue()
