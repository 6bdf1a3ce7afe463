"""How long `python train.py` takes to its first batch, with logger=wandb offline and with logger=csv, in pairs."""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from costate.config.words import override
from costate.runs.program import start

PAIRS = 5


class FirstBatch(Callback):
    """Writes down when the first batch begins."""

    def __init__(self, *, path: str):
        self.path = Path(path)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *batch: object) -> None:
        if not self.path.exists():
            self.path.write_text(str(time.time()))


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(options: argparse.Namespace) -> None:
    """Prints seconds both ways, and what W&B adds; on the digits, which need no files."""
    os.environ["WANDB_MODE"] = "offline"
    print(f"{'wandb':>7} {'csv':>7} {'more':>6}")
    _seconds("csv")
    more = []
    for _ in range(PAIRS):
        tracked, plain = _seconds("wandb"), _seconds("csv")
        more.append(tracked - plain)
        print(f"{tracked:>7.2f} {plain:>7.2f} {more[-1]:>6.2f}", flush=True)
    print(f"median {statistics.median(more):.2f} s more")


def _seconds(logger: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder, "first")
        first = [f"+callbacks.first._target_={__name__}.FirstBatch", f"+callbacks.first.path='{mark}'"]
        where = override("hydra.run.dir", f"{folder}/run")
        words = ["debug=fast", f"logger={logger}", where, "trainer.progress=none", *first]
        begun = time.time()
        code = start(words, Path(folder, "log")).wait()
        assert code == 0, Path(folder, "log").read_text()
        return float(mark.read_text()) - begun
