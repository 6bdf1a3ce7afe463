"""One batch over and over: a network that cannot learn it by heart has a mistake in it."""

from lightning.pytorch import Callback, LightningModule, Trainer


class OneBatch(Callback):
    """Every epoch begins with the batch of the first; with `trainer.train_batches=1` that is all there is."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert trainer.train_dataloader is not None, "an epoch has a loader"
        trainer.train_dataloader.set_epoch(0)
