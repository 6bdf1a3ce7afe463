"""How fast a training is."""

import time
from typing import Any, final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from costate.config.settings import Size


@final
class Throughput(Callback):
    """Logs `samples_per_second` of training, and `fit_seconds` since the fit began with all that is in it.

    Validation and what happens between epochs do not count for the first, nor do the batches before caches are filled.
    The samples of all replicas count; a resumed run goes on counting.

    Args:
        warmup: batches at the beginning that do not count, unless there are no others.
    """

    def __init__(self, *, warmup: Size):
        self.warmup = warmup
        self.counted, self.before = (0, 0.0), 0.0
        """Samples and their seconds; the seconds of the fit before it was resumed."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.batches, self.resumed = 0, self.counted
        self.replicas = (trainer.distributed_sampler_kwargs or {}).get("num_replicas", 1)
        self.start = time.perf_counter() - self.before

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that is resumed in the middle of an epoch starts none.
        self.since = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch and pl_module.device.type == "cuda":
            # Kernels run behind the program: an epoch is over when the last one is.
            torch.cuda.synchronize()
        samples, seconds = self.resumed if self.batches == self.warmup else self.counted
        now = time.perf_counter()
        self.counted = samples + len(batch[0]) * self.replicas, seconds + now - self.since
        self.since = now
        self.batches += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        samples, seconds = self.counted
        rate = samples / seconds if seconds else 0.0
        pl_module.log_dict({"samples_per_second": rate, "fit_seconds": time.perf_counter() - self.start})

    def state_dict(self) -> dict[str, Any]:
        return {"counted": self.counted, "before": time.perf_counter() - self.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.counted, self.before = tuple(state_dict["counted"]), state_dict["before"]
