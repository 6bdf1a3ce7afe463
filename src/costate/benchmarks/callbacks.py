"""What measuring costs: an epoch of the main job with every measuring callback, against one with none, in pairs."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf

import costate.runs  # noqa: F401  (what conf/ interpolates)
from costate.training.module import Training

PAIRS = 5
CONF = Path(__file__).parents[3] / "conf"


def run(root: str) -> None:
    """Prints seconds of an epoch, its validation included, of `arch=verlet method=sg data=mnist` both ways.

    Raises:
        ValueError: MNIST is not there.
    """
    words = ["arch=verlet", "method=sg", "data=mnist", f"data.root={root}", "epochs=1", "trainer.progress=none"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        on, off = (compose("config", [*words, f"callbacks={which}"]) for which in ("all", "none"))
    print(f"An epoch of arch=verlet method=sg data=mnist, seconds, {torch.get_num_threads()} threads")
    print(f"{'all':>7} {'none':>7} {'ratio':>6}")
    _epoch(off)
    ratios = []
    for _ in range(PAIRS):
        measured, bare = _epoch(on), _epoch(off)
        ratios.append(measured / bare)
        print(f"{measured:>7.2f} {bare:>7.2f} {ratios[-1]:>6.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}")


class _Stopwatch(Callback):
    """Seconds from the first batch of an epoch until all that belongs to it is over."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self.start


def _epoch(cfg: DictConfig) -> float:
    def build(node: Any, *objects: Any) -> Any:
        return instantiate(node, *objects, _convert_="all")

    torch.manual_seed(0)
    data = build(cfg.data)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    blocks = build(cfg.arch, data.shape, data.task.outputs).cut(cfg.stages)
    rules = [build(cfg[axis]) for axis in ("method", "execution", "optimizer", "annealing")]
    model = Training(blocks, data.shape, data.task, *rules, clip=None, log_every=cfg.log_every, config=config)
    stopwatch = _Stopwatch()
    callbacks = [*(build(node) for node in cfg.get("callbacks", {}).values()), stopwatch]
    with tempfile.TemporaryDirectory() as folder:
        loggers = [build(node, Path(folder), 0, config) for node in cfg.logger.values()]
        build(cfg.trainer, Path(folder), 1, cfg.log_every, callbacks, loggers).fit(model, data)
    return stopwatch.seconds
