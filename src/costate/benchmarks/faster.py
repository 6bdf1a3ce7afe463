"""What torch offers to be faster: compiled stages, bfloat16, images with their channels last.

Each against the plain network, step by step in pairs: how many times as fast it is, and how many seconds its first step
takes. A step is forward and backward of all stages, and Adam's.
"""

import argparse
import statistics
import time
from contextlib import nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from costate.benchmarks.pairs import build, in_turn
from costate.config.composing import composed

NETS = (
    "arch=verlet",
    "arch=verlet arch/form=conv",
    "arch=verlet arch/form=tokens arch.form.patch=7",
    "arch=vit arch.form.patch=7",
    "arch=resnet18 arch.settings.width=16",
)
SHAPE, CLASSES = (1, 28, 28), 10
Way = Literal["plain", "compile", "bf16", "channels_last"]
WAYS: tuple[Way, ...] = ("compile", "bf16", "channels_last")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=int, default=15, help="steps of either network in turn (default 15)")
    parser.add_argument("--stages", type=int, default=4, help="parts that networks are cut into (default 4)")
    parser.add_argument("--batch", type=int, default=256, help="samples of a batch (default 256)")
    parser.add_argument("--nets", nargs="+", default=NETS, help="settings of the networks, each in quotes")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="what is tried (default all)")


def run(options: argparse.Namespace) -> None:
    print(f"Times as fast as the plain step, on random images of MNIST's shape; {torch.get_num_threads()} threads")
    print(f"{'network':<48} {'way':<14} {'plain ms':>8}   {'least, median, most':>20} {'first step s':>13}")
    for net in options.nets:
        for way in options.ways:
            # Those of another network would count against it.
            torch.compiler.reset()
            plain, other = (Steps(net, options.stages, options.batch, each) for each in ("plain", way))
            plain.seconds()
            first = other.seconds()
            found = list(in_turn(options.pairs, plain.seconds, other.seconds))
            ratios = sorted(a / b for a, b in found)
            times = f"{ratios[0]:.2f}  {statistics.median(ratios):.2f}  {ratios[-1]:.2f}"
            ms = 1000 * statistics.median(a for a, _ in found)
            print(f"{net:<48} {way:<14} {ms:>8.1f}   {times:>20} {first:>13.2f}", flush=True)


class Steps:
    """A network's training, step by step, in one of these ways."""

    def __init__(self, net: str, stages: int, batch: int, way: Way):
        cfg = composed(*net.split(), f"stages={stages}")
        torch.manual_seed(0)
        self.blocks = nn.Sequential(*build(cfg.arch, SHAPE, CLASSES).cut(stages))
        self.x, self.y, self.way = torch.randn(batch, *SHAPE), torch.randint(CLASSES, (batch,)), way
        if way == "compile":
            for block in self.blocks:
                block.compile()
        if way == "channels_last":
            self.blocks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.x = self.x.to(memory_format=torch.channels_last)
        self.optimizer: Any = build(cfg.optimizer)([{"params": list(self.blocks.parameters())}])

    def seconds(self) -> float:
        """Of the next step."""
        since = time.perf_counter()
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if self.way == "bf16" else nullcontext():
            loss = F.cross_entropy(self.blocks(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - since
