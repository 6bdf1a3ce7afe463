"""Runs as train.py makes them, in this process and in one of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import train
from hydra.errors import InstantiationException
from torch import Tensor

from composing import config
from costate.commandline import cause
from costate.runs import RunFolder
from costate.schema import check

ROOT = Path(__file__).parents[1]
SMALL = ("data=ellipse", "data.train=96", "data.batch_size=16", "arch.width=8", "arch.depth=4", "epochs=3")
QUIET = ("trainer.progress=none", "log_every=4")


def fit(path: Path, *overrides: str) -> RunFolder:
    """A small run in this process; with resume=... it goes on in its folder."""
    folder = RunFolder(path, overrides)
    cfg = config(*overrides)
    train.train(check(folder.saved(cfg) if cfg.resume else cfg), folder)
    return folder


def refusal(path: Path, *overrides: str) -> str:
    """What such a run is refused with."""
    with pytest.raises((ValueError, InstantiationException)) as error:
        fit(path, *overrides)
    reason = cause(error.value)
    assert isinstance(reason, ValueError)
    return str(reason)


def command(*overrides: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """python train.py ..., to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def last(folder: RunFolder) -> dict[str, Any]:
    return torch.load(folder.path / "checkpoints" / "last.ckpt", weights_only=True)


def differences(a: Any, b: Any, key: str = "") -> list[str]:
    """Where two checkpoints are not the same, bit for bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return [] if torch.equal(a, b) else [key]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [where for k in a for where in differences(a[k], b[k], f"{key}.{k}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [where for i, (x, y) in enumerate(zip(a, b, strict=True)) for where in differences(x, y, f"{key}.{i}")]
    return [] if a == b else [key]
