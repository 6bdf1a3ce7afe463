"""Runs as train.py makes them, in this process and in one of their own."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import train
from torch import Tensor

import composing
from composing import config
from costate.config.schema import check
from costate.runs import RunFolder
from costate.training.wandb_run import closing

ROOT = Path(__file__).parents[1]
SMALL = ("data=ellipse", "data.train=96", "data.batch_size=16", "arch.width=8", "arch.depth=4", "epochs=3")
QUIET = ("trainer.progress=none", "log_every=4")


def fit(path: Path, *overrides: str) -> RunFolder:
    """A small run in this process; with resume=... it goes on in its folder."""
    folder = RunFolder(path, overrides)
    cfg = config(*overrides)
    closing(train.train, check(folder.saved(cfg) if cfg.resume else cfg), folder)
    return folder


def refusal(path: Path, *overrides: str) -> str:
    """What such a run is refused with."""
    return composing.refusal(lambda: fit(path, *overrides))


def command(*overrides: str, cwd: Path, limit: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """python train.py ..., to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=limit,
    )


def interrupted(
    *overrides: str, cwd: Path, meanwhile: Callable[[], None] = lambda: None
) -> subprocess.CompletedProcess[str]:
    """python train.py ..., with Ctrl-C behind its first epoch, and before that `meanwhile`."""
    words = [*overrides, "trainer.progress=lines", "+callbacks.pause._target_=alarm.Pause"]
    with subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "train.py"), *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            trains = any(line.startswith("epoch   1/") for line in program.stdout)
            meanwhile()
            program.send_signal(signal.SIGINT)
            shown, told = program.communicate(timeout=60)
        except BaseException:
            # One that does not heed Ctrl-C would be waited for at the end of the block.
            program.kill()
            raise
    assert trains, f"it ended before its first epoch did: {told}"
    return subprocess.CompletedProcess(words, program.returncode, shown, told)


def ranks_of(folder: Path) -> list[int]:
    """Processes that have been started as ranks of the run in a folder."""
    return [pid for pid, line in command_lines() if {f"hydra.run.dir={folder}", f"resume={folder}"} & set(line)]


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """All processes of this machine, and their words; what has ended and was not waited for has none."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")


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


def unlike(found: RunFolder, expected: RunFolder) -> list[str]:
    """Tensors of the last checkpoints that are not the same, bit for bit."""
    ours, theirs = last(found), last(expected)
    return [key for name in ("state_dict", "optimizer_states") for key in differences(ours[name], theirs[name], name)]
