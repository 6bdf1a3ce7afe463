"""A small training for the callbacks to look at."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset, default_collate

from composing import config, network
from costate.core.tasks import Classification
from costate.training.module import Training
from recorder import Recorder

BATCHES = 8
SHAPE, CLASSES = (4,), 3


class Fit:
    """What a fit leaves behind."""

    def __init__(self, module: LightningModule, callbacks: Sequence[Callback], epochs: int):
        self.module, self.recorder = module, Recorder()
        self.trainer = Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=list(callbacks),
            logger=self.recorder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=4,
        )
        self.trainer.fit(module, loader(), loader())
        self.means = {name: value.item() for name, value in self.trainer.callback_metrics.items()}


def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(16 * BATCHES, *SHAPE, generator=generator)
    data = TensorDataset(x, x[:, :CLASSES].argmax(dim=1))
    return DataLoader(data, batch_size=16, collate_fn=lambda rows: tuple(default_collate(rows)))


def training(*overrides: str) -> Training:
    """Composed from conf/; the same weights for the same settings."""
    # An outer iteration is long, and of its length nothing here depends.
    short = ("method.solver.steps=2",) if "method=pvd" in overrides else ()
    cfg = config(*overrides, *short)
    torch.manual_seed(0)
    words = [word for word in overrides if word.startswith("arch.")]
    blocks = network(SHAPE, CLASSES, "arch=verlet", "arch.depth=6", "arch.width=8", *words).cut(3)
    rules = [instantiate(node, _convert_="all") for node in (cfg.method, cfg.execution, cfg.optimizer, cfg.annealing)]
    task = Classification(CLASSES)
    return Training(blocks, SHAPE, task, *rules, clip=cfg.clip, config={})


@pytest.fixture
def fit() -> Callable[..., Fit]:
    def run(*overrides: str, callbacks: Sequence[Callback] = (), epochs: int = 2) -> Fit:
        return Fit(training(*overrides), callbacks, epochs)

    return run
