"""A run that is resumed from any checkpoint sees the batches that the uninterrupted run would have seen."""

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from costate.data.planar import Ellipse

EPOCHS, BATCHES = 3, 3


class Recorder(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.seen = []

    def training_step(self, batch):
        x, y = batch
        self.seen.append((x.clone(), y.clone()))
        return self.layer(x).mean()

    def validation_step(self, batch):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveEverywhere(Callback):
    """Saves after every batch, after every validation and at the end of every epoch; notes the batches seen by then."""

    def __init__(self, folder):
        self.folder = folder
        self.saved = {}

    def save(self, trainer, module, when):
        path = self.folder / f"{when}-{len(module.seen)}.ckpt"
        trainer.save_checkpoint(path)
        self.saved[path] = len(module.seen)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.save(trainer, module, "batch")

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.save(trainer, module, "validation")

    def on_train_epoch_end(self, trainer, module):
        self.save(trainer, module, "epoch")


def fit(limits, *callbacks, resume=None):
    data = Ellipse(train=20, validation=8, test=4, batch_size=6, seed=0, shuffle_seed=3)
    module = Recorder()
    trainer = Trainer(
        **limits,
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data, ckpt_path=resume)
    return module.seen


@pytest.mark.parametrize(
    "limits",
    [
        {"max_epochs": EPOCHS},
        {"max_epochs": EPOCHS, "limit_val_batches": 0},
        {"max_epochs": EPOCHS, "val_check_interval": 2},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_resumed_equals_uninterrupted(limits, tmp_path):
    saver = SaveEverywhere(tmp_path)
    whole = fit(limits, saver)
    assert len(whole) == EPOCHS * BATCHES
    assert len(saver.saved) >= EPOCHS * (BATCHES + 1)
    for path, count in saver.saved.items():
        rest = fit(limits, resume=path)
        assert len(rest) == len(whole) - count, path.name
        for (x, y), (a, b) in zip(rest, whole[count:], strict=True):
            assert torch.equal(x, a), path.name
            assert torch.equal(y, b), path.name


def test_lightning_finds_the_loader_resumable(recwarn, tmp_path):
    saver = SaveEverywhere(tmp_path)
    limits = {"max_epochs": EPOCHS}
    fit(limits, saver)
    recwarn.clear()
    fit(limits, resume=tmp_path / "batch-2.ckpt")
    assert not [warning for warning in recwarn if "not resumable" in str(warning.message)]
