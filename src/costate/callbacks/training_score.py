"""How well the network does on the batches that it trains on."""

from typing import Any, final

from lightning.pytorch import LightningModule
from torch import Tensor

from costate.callbacks.measurement import Measurement
from costate.config.settings import Count
from costate.interfaces import Loss


@final
class TrainingScore(Measurement):
    """Logs `train/loss` and the score of the batch, `train/accuracy` or `train/mse`, from before the batch's step.

    Of this process's rows alone: replicas do not wait for each other here.

    Raises:
        ValueError: the loss is no number any more.
    """

    shown = True

    def __init__(self, *, every: Count):
        super().__init__(every)

    def measure(self, module: LightningModule) -> dict[str, Tensor]:
        training: Any = module
        if training.seen is None:
            return {}
        output, y = training.seen
        interface = training.execution.stages[-1].interface
        assert isinstance(interface, Loss)
        loss, n = interface.value, module.trainer.global_step
        if not loss.isfinite():
            raise ValueError(f"The training loss is {loss.item()} at batch {n}: lower optimizer.lr or set clip=1.")
        task = training.task
        return {"train/loss": loss, f"train/{task.score}": task.metric().to(output.device)(output, y)}
