"""Two ways to do the same, in turn, and the ratio within a pair: what else a machine does changes with the hour."""

import argparse
import operator
import os
import statistics
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader, TensorDataset

from costate.benchmarks import build
from costate.callbacks.measurement import TrainingScore
from costate.callbacks.peak_memory import Held
from costate.config.composing import composed
from costate.config.words import override
from costate.core.block import Network, stacked
from costate.core.types import Shape
from costate.runs.program import start as started
from costate.training.module import Training

PAIRS = 5


def mnist(parser: argparse.ArgumentParser) -> None:
    """Of those that read it."""
    parser.add_argument("--root", default=os.environ.get("COSTATE_DATA", "data"), help="folder with MNIST/raw in it")


def in_turn(pairs: int, *ways: Callable[[], float]) -> Iterator[tuple[float, ...]]:
    """What each way gives, all of them once, so many times."""
    return (tuple(way() for way in ways) for _ in range(pairs))


def told_in_turn(ways: dict[str, Callable[[], float]], what: str, of: Callable[[float, float], float]) -> None:
    """A line for each pair of two ways, and the median of what is made `of` it; the second way is run once before."""
    first, second = ways
    print(f"{first:>7} {second:>7} {what}")
    ways[second]()
    found = []
    for a, b in in_turn(PAIRS, *ways.values()):
        found.append(of(a, b))
        print(f"{a:>7.2f} {b:>7.2f} {found[-1]:.3f}", flush=True)
    print(f"median {what} {statistics.median(found):.3f}")


def overhead(options: argparse.Namespace) -> None:
    """What Lightning costs: an epoch as train.py runs it, against a bare loop over the same network and rows."""
    cfgs = [_main_job(options, "method=backprop", f"stages={stages}") for stages in (1, 2)]
    # Lightning without a validation set says so; here that is meant.
    warnings.filterwarnings("ignore", "You defined a `validation_step` but have no `val_dataloader`")
    print(f"An epoch of arch=verlet method=backprop data=mnist, seconds, {torch.get_num_threads()} threads")
    print(f"{'stages':>6} {'lightning':>10} {'bare loop':>10} {'ratio':>6}")
    ratios: list[list[float]] = [[], []]
    for _ in range(PAIRS):
        for cfg, found in zip(cfgs, ratios, strict=True):
            ours, bare = _epoch(cfg, validates=False), _bare_loop(cfg)
            found.append(ours / bare)
            print(f"{cfg.stages:>6} {ours:>10.2f} {bare:>10.2f} {found[-1]:>6.3f}", flush=True)
    for cfg, found in zip(cfgs, ratios, strict=True):
        print(f"median ratio {statistics.median(found):.3f} with stages={cfg.stages}")


def callbacks(options: argparse.Namespace) -> None:
    """What measuring costs: an epoch of the main job with every measuring callback, against one with none, in pairs.

    Seconds of an epoch, its validation included, of `arch=verlet method=sg data=mnist`.
    """
    on, off = (_main_job(options, "method=sg", f"callbacks={which}") for which in ("all", "none"))
    print(f"An epoch of arch=verlet method=sg data=mnist, seconds, {torch.get_num_threads()} threads")
    told_in_turn({"all": lambda: _epoch(on), "none": lambda: _epoch(off)}, "ratio", operator.truediv)


def reading(options: argparse.Namespace) -> None:
    """How long a full pass over MNIST takes: the data module's loaders against `DataLoader(TensorDataset)`, in pairs.

    Training and validation rows: 60,000 images.
    """
    before, pairs = torch.get_num_threads(), 7
    print(f"A pass over MNIST, seconds, median of {pairs} pairs (worst in brackets)")
    print(f"{'batch':>5} {'threads':>7} {'data module':>16} {'TensorDataset':>16} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as cache:
        for batch in 128, 256:
            data = build(_main_job(options, f"data.batch_size={batch}", override("data.cache", cache)).data)
            data.setup()
            rows = data.parts.train, data.parts.validation
            x = torch.cat([data.prepare(part.x[:]) for part in rows])
            plain = DataLoader(TensorDataset(x, torch.cat([part.y for part in rows])), batch, shuffle=True)
            ways = partial(_passes, data.train_dataloader, data.val_dataloader), partial(_passes, plain.__iter__)
            for threads in 1, 2:
                torch.set_num_threads(threads)
                ours, theirs = zip(*in_turn(pairs, *ways), strict=True)
                ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
                shown = [f"{statistics.median(found):.3f} ({max(found):.3f})" for found in (ours, theirs)]
                print(f"{batch:>5} {threads:>7} {shown[0]:>16} {shown[1]:>16} {ratio:>6.1f}", flush=True)
    torch.set_num_threads(before)


def start(options: argparse.Namespace) -> None:
    """How long `python train.py` takes to its first batch, with logger=wandb offline and with logger=csv, in pairs.

    On the digits, which need no files.
    """
    os.environ["WANDB_MODE"] = "offline"
    told_in_turn({name: partial(_to_first_batch, name) for name in ("wandb", "csv")}, "seconds more", operator.sub)


def _of_networks(parser: argparse.ArgumentParser, what: str, steps: int, *nets: str) -> None:
    parser.add_argument("--pairs", type=int, default=15, help=f"runs of either {what} in turn (default 15)")
    parser.add_argument("--steps", type=int, default=steps, help=f"steps of a run (default {steps})")
    parser.add_argument("--nets", nargs="+", default=nets, help="settings of the networks, each in quotes")


def deep(parser: argparse.ArgumentParser) -> None:
    """Of `reversible`."""
    _of_networks(parser, "network", 5, "arch=verlet", "arch=leapfrog", "arch=verlet arch/form=conv")
    parser.add_argument("--depths", nargs="+", type=int, default=(64, 256), help="numbers of layers (default 64 256)")


def reversible(options: argparse.Namespace) -> None:
    """What arch.reversible=true saves and costs: bytes held for the backward pass, and the time of a step, in pairs.

    A network that stores its states and one that rebuilds them: backprop, Adam, MNIST's shapes.
    """
    print(f"Peak bytes held for the backward pass; times of a step; {torch.get_num_threads()} threads")
    print(f"{'network':<27} {'depth':>5} {'stored':>13} {'rebuilt':>11}   {'ratio of times: least, median, most':>30}")
    for net in options.nets:
        grown = []
        for depth in options.depths:
            told = (f"{net} arch.depth={depth} arch.reversible={rebuilds}" for rebuilds in ("false", "true"))
            pair = [Steps(words, (1, 28, 28), 256, options.steps) for words in told]
            stored, rebuilt = (each.peak() for each in pair)
            times = _spread(options.pairs, *(each.seconds for each in pair[::-1]))
            print(f"{net:<27} {depth:>5} {stored:>13,} {rebuilt:>11,}   {times:>30}", flush=True)
            grown.append(rebuilt)
        for (a, b), (less, more) in zip(pairwise(options.depths), pairwise(grown), strict=True):
            print(f"{net:<27} rebuilt, from depth {a} to {b}: {more / less - 1:+.1%}")


def pictured(parser: argparse.ArgumentParser) -> None:
    """Of `layout`."""
    conv = "arch=verlet arch/form=conv arch.depth=8"
    _of_networks(parser, "layout", 3, conv, f"{conv} arch.norm=true arch.width=32", "arch=resnet32")


def layout(options: argparse.Namespace) -> None:
    """What channels_last=true gains: how many times as fast a step is as one of the plain run, in pairs.

    Backprop, Adam, batches of 128 of CIFAR's shapes.
    """
    print(f"Steps with images pixel by pixel, {torch.get_num_threads()} threads")
    print(f"{'network':<70} {'ratio of speeds: least, median, most':>37}")
    for net in options.nets:
        plain, laid = (Steps(net, (3, 32, 32), 128, options.steps) for _ in range(2))
        laid.net.block.channels_last = True
        print(f"{net:<70} {_spread(options.pairs, plain.seconds, laid.seconds):>37}", flush=True)


def _spread(pairs: int, *ways: Callable[[], float]) -> str:
    """How many times as much the first way gives as the second: the least, the median and the most of all pairs."""
    for way in ways:
        way()
    ratios = sorted(a / b for a, b in in_turn(pairs, *ways))
    return f"{ratios[0]:.2f}  {statistics.median(ratios):.2f}  {ratios[-1]:.2f}"


def _main_job(options: argparse.Namespace, *words: str) -> DictConfig:
    return composed("arch=verlet", "data=mnist", "trainer.progress=none", override("data.root", options.root), *words)


def _parts(cfg: DictConfig) -> tuple[Any, Any]:
    """Data and network."""
    torch.manual_seed(0)
    data = build(cfg.data)
    network = build(cfg.arch, data.shape, data.task.outputs)
    data.setup()
    return data, network


def _epoch(cfg: DictConfig, validates: bool = True) -> float:
    """Seconds of an epoch with every callback and logger of the settings, with its validation or without."""
    data, network = _parts(cfg)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    rules = [build(cfg[axis]) for axis in ("method", "execution", "optimizer", "annealing")]
    model = Training(network.cut(cfg.stages, cfg.balance), data.shape, data.task, *rules, clip=None, config=config)
    stopwatch = Stopwatch()
    callbacks = [*map(build, cfg.callbacks.values()), TrainingScore(every=cfg.log_every), stopwatch]
    with tempfile.TemporaryDirectory() as folder:
        loggers = [build(node, Path(folder), 0, config) for node in cfg.logger.values()]
        trainer = build(cfg.trainer, Path(folder), 1, cfg.log_every, callbacks, loggers)
        trainer.fit(model, data if validates else data.train_dataloader())
    return stopwatch.whole if validates else stopwatch.batches


class Stopwatch(Callback):
    """Seconds from the first batch of an epoch to the end of the last one, and of all that belongs to the epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *batch: Any) -> None:
        if trainer.is_last_batch:
            self.batches = time.perf_counter() - self.start

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.whole = time.perf_counter() - self.start


def _bare_loop(cfg: DictConfig) -> float:
    """The uncut network, autograd, the same optimizer."""
    data, network = _parts(cfg)
    optimizer = build(cfg.optimizer)([{"params": list(network.parameters())}], stacked(network))
    loader = data.train_dataloader()
    since = time.perf_counter()
    for x, y in loader:
        optimizer.zero_grad()
        data.task.loss(network(x), y).backward()
        optimizer.step()
    return time.perf_counter() - since


def _passes(*loaders: Callable[[], Iterable[Any]]) -> float:
    since = time.perf_counter()
    for loader in loaders:
        deque(loader(), maxlen=0)
    return time.perf_counter() - since


class FirstBatch(Callback):
    """Writes down when the first batch begins."""

    def __init__(self, *, path: str):
        self.path = Path(path)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *batch: object) -> None:
        if not self.path.exists():
            self.path.write_text(str(time.time()))


def _to_first_batch(logger: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        mark, log = Path(folder, "first"), Path(folder, "log")
        first = [f"+callbacks.first._target_={__name__}.FirstBatch", f"+callbacks.first.path='{mark}'"]
        words = ["debug=fast", f"logger={logger}", override("hydra.run.dir", f"{folder}/run"), "trainer.progress=none"]
        begun = time.time()
        code = started([*words, *first], log).wait()
        assert code == 0, log.read_text()
        return float(mark.read_text()) - begun


class Steps:
    """So many steps of a network's training, on a batch of that many samples of that shape."""

    def __init__(self, net: str, shape: Shape, batch: int, steps: int):
        cfg = composed(*net.split())
        torch.manual_seed(0)
        self.net: Network = build(cfg.arch, shape, 10)
        self.optimizer: Any = build(cfg.optimizer)([{"params": list(self.net.parameters())}], stacked(self.net))
        self.x, self.y, self.steps = torch.randn(batch, *shape), torch.randint(10, (batch,)), steps

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

    def seconds(self) -> float:
        since = time.perf_counter()
        for _ in range(self.steps):
            self.step()
        return time.perf_counter() - since
