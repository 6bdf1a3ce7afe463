"""The outer iterations of parallel variable distribution."""

from typing import Any, final

from lightning.pytorch import Callback, LightningModule, Trainer


@final
class OuterIterations(Callback):
    """Logs what each outer iteration has come to and cost, as `pvd/...`; of other methods there is nothing to tell.

    `pvd/f/...` is the function at the start, at each worker's end and after the synchronisation, `pvd/lambda/<l>` the
    weight of worker l in it, `pvd/mu/<l>/<k>` by how much worker l has moved block k, in lengths of its direction.
    `pvd/seconds/theoretical` are those of p processes that communicate in no time: start, slowest worker and
    synchronisation. At the end of an epoch come the sums over the run: `pvd/theoretical_seconds`, and
    `pvd/measured_seconds` of the processes that there were.
    """

    def __init__(self) -> None:
        self.sums = {"theoretical": 0.0, "measured": 0.0}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        training: Any = pl_module
        numbers = training.iteration.report()
        if not numbers:
            return
        for name in self.sums:
            self.sums[name] += numbers[f"pvd/seconds/{name}"]
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": trainer.current_epoch, **numbers}, step=trainer.global_step - 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if any(self.sums.values()):
            pl_module.log_dict({f"pvd/{name}_seconds": value for name, value in self.sums.items()})

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.sums = dict(state_dict["sums"])
