"""What Lightning costs: an epoch as train.py runs it, against a bare PyTorch loop over the same network and batches."""

import statistics
import tempfile
import time
import warnings
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
    """Prints seconds of an epoch both ways, for `arch=verlet method=backprop data=mnist`, and their ratio.

    Raises:
        ValueError: MNIST is not there.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = ["arch=verlet", "method=backprop", "data=mnist", f"data.root={root}", "epochs=1"]
        cfg = compose("config", [*overrides, "trainer.progress=none"])
    # Lightning without a validation set says so; here that is meant.
    warnings.filterwarnings("ignore", "You defined a `validation_step` but have no `val_dataloader`")
    print(f"An epoch of arch=verlet method=backprop data=mnist, seconds, {torch.get_num_threads()} threads")
    print(f"{'stages':>6} {'lightning':>10} {'bare loop':>10} {'ratio':>6}")
    ratios: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(PAIRS):
        for stages, found in ratios.items():
            ours, bare = _lightning(cfg, stages), _bare(cfg)
            found.append(ours / bare)
            print(f"{stages:>6} {ours:>10.2f} {bare:>10.2f} {found[-1]:>6.3f}", flush=True)
    for stages, found in ratios.items():
        print(f"median ratio {statistics.median(found):.3f} with stages={stages}")


def _parts(cfg: DictConfig) -> tuple[Any, Any]:
    torch.manual_seed(0)
    data = instantiate(cfg.data, _convert_="all")
    return data, instantiate(cfg.arch, data.shape, data.task.outputs, _convert_="all")


class _Stopwatch(Callback):
    """Seconds from the first batch of an epoch to the end of the last one."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        if trainer.is_last_batch:
            self.seconds = time.perf_counter() - self.start


def _lightning(cfg: DictConfig, stages: int) -> float:
    """With every callback and logger that train.py has by default, but without validation."""
    data, network = _parts(cfg)
    rules = [instantiate(cfg[axis], _convert_="all") for axis in ("method", "execution", "optimizer", "annealing")]
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    model = Training(
        network.cut(stages), data.shape, data.task, *rules, clip=None, log_every=cfg.log_every, config=config
    )
    stopwatch = _Stopwatch()
    measurements = [instantiate(node, _convert_="all") for node in cfg.callbacks.values()]
    with tempfile.TemporaryDirectory() as folder:
        loggers = [instantiate(node, Path(folder), 0, {}, _convert_="all") for node in cfg.logger.values()]
        trainer = instantiate(
            cfg.trainer, Path(folder), 1, cfg.log_every, [*measurements, stopwatch], loggers, _convert_="all"
        )
        data.setup()
        trainer.fit(model, data.train_dataloader())
    return stopwatch.seconds


def _bare(cfg: DictConfig) -> float:
    """The uncut network, autograd, the same optimizer."""
    data, network = _parts(cfg)
    optimizer = instantiate(cfg.optimizer, _convert_="all")([{"params": list(network.parameters())}])
    data.setup()
    loader = data.train_dataloader()
    start = time.perf_counter()
    for x, y in loader:
        optimizer.zero_grad()
        data.task.loss(network(x), y).backward()
        optimizer.step()
    return time.perf_counter() - start
