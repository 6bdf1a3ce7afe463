"""Time: how fast a training is, what its stages would take side by side, how late gradients are, who did what when.

W_k  seconds of stage k's own operations, forward, update and learn, in the batches in which no stage waits
L    seconds of all stages in the others, as under the backward lock

    series = L + Σ_k W_k        theoretical = L + max_k W_k
"""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any, final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from costate.callbacks.measurement import Measurement, log
from costate.config.settings import Size
from costate.execution.clock import Span


@final
class Throughput(Callback):
    """Logs `samples_per_second` of training, and `fit_seconds` since the fit began with all that is in it.

    Validation and what happens between epochs do not count for the first, nor do the first `warmup` batches, before
    caches are filled, unless there are no others. The samples of all replicas count; a resumed run goes on counting.
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
        self.since = time.perf_counter()

    # A run that is resumed in the middle of an epoch starts none.
    on_train_epoch_start = on_validation_end = on_train_start

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
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


@final
class ParallelTime(Callback):
    """Logs `series_seconds` and `theoretical_seconds` of the whole fit, that of the slowest stage.

    Both are without the optimizer's steps, data and validation, and on a CPU alone: on a GPU operations run behind the
    program. A resumed run goes on counting.
    """

    def __init__(self) -> None:
        self.before: dict[str, float] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.execution = pl_module.execution

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        work = self._work()
        if work and pl_module.device.type == "cpu":
            locked = work.pop("locked", 0.0)
            times = {"series_seconds": sum(work.values()), "theoretical_seconds": max(work.values(), default=0.0)}
            pl_module.log_dict({name: locked + seconds for name, seconds in times.items()})

    def state_dict(self) -> dict[str, Any]:
        return {"work": self._work()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = state_dict["work"]

    def _work(self) -> dict[str, float]:
        return dict(Counter(self.before) + Counter(self.execution.work()))


@final
class OuterIterations(Callback):
    """Logs what each outer iteration has come to and cost, as `pvd/...`; of other methods there is nothing to tell.

    `pvd/f/...` is the function at the start, at each worker's end and after the synchronisation, `pvd/lambda/<l>` the
    weight of worker l in it, `pvd/mu/<l>/<k>` by how much it has moved block k, in lengths of its direction.
    `pvd/seconds/theoretical` are those of p processes that communicate in no time: start, slowest worker,
    synchronisation. An epoch ends with sums over the run: `pvd/theoretical_seconds`, `pvd/measured_seconds`.
    """

    def __init__(self) -> None:
        self.sums = {"theoretical": 0.0, "measured": 0.0}

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        numbers = pl_module.iteration.report()
        if not numbers:
            return
        for name in self.sums:
            self.sums[name] += numbers[f"pvd/seconds/{name}"]
        log(trainer, trainer.global_step - 1, numbers)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if any(self.sums.values()):
            pl_module.log_dict({f"pvd/{name}_seconds": value for name, value in self.sums.items()})

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.sums = dict(state_dict["sums"])


@final
class Traffic(Measurement):
    """Of each stage, as `stage/<k>/...`: `staleness`, by how many batches a gradient is late that it learns from.

    And of each one that has a process of its own, since the measurement before: `busy`, the share of the time in which
    it did not wait for others, `stall_ms`, its waiting a batch, `queue`, the number of batches that wait for gradients.
    An asynchronous role says what `Asynchronous.measure` lists.
    """

    def measure(self, module: Any) -> dict[str, Tensor]:
        return {name: torch.tensor(value) for name, value in module.execution.measure().items()}


@final
class Timeline(Callback):
    """Writes what every process has done when, for Perfetto (ui.perfetto.dev), if the execution remembers it."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        processes = pl_module.execution.timeline()
        if trainer.is_global_zero and any(spans for _, spans in processes):
            self.path.write_text(json.dumps({"traceEvents": events(processes)}), encoding="utf-8")


def events(processes: list[tuple[str, list[Span]]]) -> list[dict[str, Any]]:
    """Chrome's trace format: a complete event ("X") a span, microseconds from the first one; a process is a row."""
    zero = min(span.start for _, spans in processes for span in spans)
    found: list[dict[str, Any]] = []
    for pid, (process, spans) in enumerate(processes):
        found.append({"name": "process_name", "ph": "M", "pid": pid, "args": {"name": process}})
        for name, batch, start, seconds in spans:
            kind = {"cat": "wait" if name.startswith("wait") else "work", "ph": "X", "pid": pid, "tid": 0}
            when = {"ts": round(1e6 * (start - zero), 1), "dur": round(1e6 * seconds, 1)}
            found.append({"name": name, **kind, **when, "args": {"batch": batch}})
    return found
