"""An epoch of a job as train.py runs it, for the benchmarks that compare it with something."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf

from costate.callbacks.measurement import TrainingScore
from costate.training.module import Training


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", default=os.environ.get("COSTATE_DATA", "data"), help="folder with MNIST/raw in it")


def build(node: Any, *objects: Any) -> Any:
    return instantiate(node, *objects, _convert_="all")


def parts(cfg: DictConfig) -> tuple[Any, Any]:
    """Data and network."""
    torch.manual_seed(0)
    data = build(cfg.data)
    return data, build(cfg.arch, data.shape, data.task.outputs)


def fit(cfg: DictConfig, stopwatch: Callback, loader: Callable[[Any], Any]) -> None:
    """Fits with every callback and logger of the settings, on what `loader` makes of the data module."""
    data, network = parts(cfg)
    data.setup()
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    rules = [build(cfg[axis]) for axis in ("method", "execution", "optimizer", "annealing")]
    model = Training(network.cut(cfg.stages, cfg.balance), data.shape, data.task, *rules, clip=None, config=config)
    measurements = [build(node) for node in cfg.callbacks.values()]
    callbacks = [*measurements, TrainingScore(every=cfg.log_every), stopwatch]
    with tempfile.TemporaryDirectory() as folder:
        loggers = [build(node, Path(folder), 0, config) for node in cfg.logger.values()]
        build(cfg.trainer, Path(folder), 1, cfg.log_every, callbacks, loggers).fit(model, loader(data))


class Stopwatch(Callback):
    """Seconds from the first batch of an epoch to the end of the last one, and of all that belongs to the epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        if trainer.is_last_batch:
            self.batches = time.perf_counter() - self.start

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.whole = time.perf_counter() - self.start
