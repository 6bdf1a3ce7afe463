"""A line on the screen for each epoch."""

from lightning.pytorch import Callback, LightningModule, Trainer


class Lines(Callback):
    """Epoch, loss and score, of training and of validation; in 50 lines at most, and as readable in a file."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert trainer.max_epochs is not None, "a run has a number of epochs"
        done, every = trainer.current_epoch + 1, -(-trainer.max_epochs // 50)
        if done % every == 0 or done == trainer.max_epochs:
            numbers = sorted(trainer.progress_bar_metrics.items())
            told = "  ".join(f"{name} {value:.4g}" for name, value in numbers if isinstance(value, float))
            pl_module.print(f"epoch {done:>3}/{trainer.max_epochs}  {told}")
