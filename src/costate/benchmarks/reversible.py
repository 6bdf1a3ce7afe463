"""What arch.reversible=true saves and costs: bytes held for the backward pass, and the time of a step, in pairs."""

import argparse
import statistics
import time
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from costate.benchmarks import epochs
from costate.callbacks.peak_memory import Held
from costate.config.composing import composed

NETS = "arch=verlet", "arch=leapfrog", "arch=verlet arch/form=conv"
DEPTHS = 64, 256
BATCH, SHAPE, CLASSES = 256, (1, 28, 28), 10


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=int, default=15, help="runs of either network in turn (default 15)")
    parser.add_argument("--steps", type=int, default=5, help="steps of a run (default 5)")
    parser.add_argument("--nets", nargs="+", default=NETS, help="settings of the networks, each in quotes")
    parser.add_argument("--depths", nargs="+", type=int, default=DEPTHS, help="numbers of layers (default 64 256)")


def run(options: argparse.Namespace) -> None:
    """Prints both for a network that stores its states and one that rebuilds them: backprop, Adam, MNIST's shapes."""
    print(f"Peak bytes held for the backward pass; times of a step; {torch.get_num_threads()} threads")
    print(f"{'network':<27} {'depth':>5} {'stored':>13} {'rebuilt':>11}   {'ratio of times: least, median, most':>30}")
    for net in options.nets:
        grown = []
        for depth in options.depths:
            pair = [Run(net, depth, rebuilds) for rebuilds in (False, True)]
            stored, rebuilt = (each.peak() for each in pair)
            ratios = sorted(
                b / a for a, b in ([each.seconds(options.steps) for each in pair] for _ in range(options.pairs))
            )
            times = f"{ratios[0]:.2f}  {statistics.median(ratios):.2f}  {ratios[-1]:.2f}"
            print(f"{net:<27} {depth:>5} {stored:>13,} {rebuilt:>11,}   {times:>30}", flush=True)
            grown.append(rebuilt)
        for (a, b), (before, after) in zip(pairwise(options.depths), pairwise(grown), strict=True):
            print(f"{net:<27} rebuilt, from depth {a} to {b}: {after / before - 1:+.1%}")


class Run:
    """A network and its training."""

    def __init__(self, net: str, depth: int, rebuilds: bool):
        cfg = composed(*net.split(), f"arch.depth={depth}", f"arch.reversible={str(rebuilds).lower()}")
        torch.manual_seed(0)
        self.net: nn.Module = epochs.build(cfg.arch, SHAPE, CLASSES)
        self.optimizer: Any = epochs.build(cfg.optimizer)([{"params": list(self.net.parameters())}])
        self.x, self.y = torch.randn(BATCH, *SHAPE), torch.randint(CLASSES, (BATCH,))

    def step(self) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.net(self.x), self.y).backward()
        self.optimizer.step()

    def peak(self) -> int:
        """Bytes of one step."""
        held = Held()
        held.leave_out(self.net)
        with torch.autograd.graph.saved_tensors_hooks(held.pack, held.unpack):
            self.step()
        return held.peak

    def seconds(self, steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        return time.perf_counter() - start
