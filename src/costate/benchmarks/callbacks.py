"""What measuring costs: an epoch of the main job with every measuring callback, against one with none, in pairs."""

import argparse
import statistics

import torch
from omegaconf import DictConfig

from costate.benchmarks import epochs
from costate.config.composing import composed

PAIRS = 5
arguments = epochs.arguments


def run(options: argparse.Namespace) -> None:
    """Prints seconds of an epoch, its validation included, of `arch=verlet method=sg data=mnist` both ways.

    Raises:
        ValueError: MNIST is not there.
    """
    words = ["arch=verlet", "method=sg", "data=mnist", f"data.root={options.root}", "trainer.progress=none"]
    on, off = (composed(*words, f"callbacks={which}") for which in ("all", "none"))
    print(f"An epoch of arch=verlet method=sg data=mnist, seconds, {torch.get_num_threads()} threads")
    print(f"{'all':>7} {'none':>7} {'ratio':>6}")
    _epoch(off)
    ratios = []
    for _ in range(PAIRS):
        measured, bare = _epoch(on), _epoch(off)
        ratios.append(measured / bare)
        print(f"{measured:>7.2f} {bare:>7.2f} {ratios[-1]:>6.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}")


def _epoch(cfg: DictConfig) -> float:
    stopwatch = epochs.Stopwatch()
    epochs.fit(cfg, stopwatch, lambda data: data)
    return stopwatch.whole
