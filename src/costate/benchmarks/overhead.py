"""What Lightning costs: an epoch as train.py runs it, against a bare PyTorch loop over the same network and batches."""

import argparse
import statistics
import time
import warnings

import torch
from omegaconf import DictConfig

from costate.benchmarks import epochs
from costate.config.composing import composed

PAIRS = 5
arguments = epochs.arguments


def run(options: argparse.Namespace) -> None:
    """Prints seconds of an epoch both ways, for `arch=verlet method=backprop data=mnist`, and their ratio.

    Raises:
        ValueError: MNIST is not there.
    """
    words = ["arch=verlet", "method=backprop", "data=mnist", f"data.root={options.root}", "trainer.progress=none"]
    # Lightning without a validation set says so; here that is meant.
    warnings.filterwarnings("ignore", "You defined a `validation_step` but have no `val_dataloader`")
    print(f"An epoch of arch=verlet method=backprop data=mnist, seconds, {torch.get_num_threads()} threads")
    print(f"{'stages':>6} {'lightning':>10} {'bare loop':>10} {'ratio':>6}")
    ratios: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(PAIRS):
        for stages, found in ratios.items():
            cfg = composed(*words, f"stages={stages}")
            ours, bare = _lightning(cfg), _bare(cfg)
            found.append(ours / bare)
            print(f"{stages:>6} {ours:>10.2f} {bare:>10.2f} {found[-1]:>6.3f}", flush=True)
    for stages, found in ratios.items():
        print(f"median ratio {statistics.median(found):.3f} with stages={stages}")


def _lightning(cfg: DictConfig) -> float:
    """With every callback and logger that train.py has by default, but without validation."""
    stopwatch = epochs.Stopwatch()
    epochs.fit(cfg, stopwatch, lambda data: data.train_dataloader())
    return stopwatch.batches


def _bare(cfg: DictConfig) -> float:
    """The uncut network, autograd, the same optimizer."""
    data, network = epochs.parts(cfg)
    optimizer = epochs.build(cfg.optimizer)([{"params": list(network.parameters())}])
    data.setup()
    loader = data.train_dataloader()
    start = time.perf_counter()
    for x, y in loader:
        optimizer.zero_grad()
        data.task.loss(network(x), y).backward()
        optimizer.step()
    return time.perf_counter() - start
