"""How much is held for the backward pass."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, final

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from costate.callbacks.measurement import Measurement, watch
from costate.config.settings import Count


class Held:
    """Bytes of the tensors that autograd has saved and not yet used, each storage once.

    Attributes:
        peak: the most bytes so far, with those of the tensors that `others` finds at such a time.
    """

    def __init__(self) -> None:
        self.owned: set[int] = set()
        self.others: Callable[[], Iterable[Tensor]] = tuple
        self.saved: dict[int, int] = {}
        self.bytes = self.peak = 0

    def leave_out(self, module: nn.Module) -> None:
        """What a module has learnt is there anyway."""
        self.owned = {_storage(tensor) for tensor in (*module.parameters(), *module.buffers())}

    def pack(self, tensor: Tensor) -> "Saved | Tensor":
        """Called by autograd for each tensor that it saves."""
        key = _storage(tensor)
        if key in self.owned:
            return tensor
        if key not in self.saved:
            self.bytes += tensor.untyped_storage().nbytes()
        self.saved[key] = self.saved.get(key, 0) + 1
        kept = {_storage(t): t.untyped_storage().nbytes() for t in self.others()}
        self.peak = max(self.peak, self.bytes + sum(kept[key] for key in kept.keys() - self.saved.keys() - self.owned))
        return Saved(tensor, self)

    @staticmethod
    def unpack(saved: "Saved | Tensor") -> Tensor:
        return saved.tensor if isinstance(saved, Saved) else saved

    def release(self, tensor: Tensor) -> None:
        """A node of the graph has been used, or is gone."""
        key = _storage(tensor)
        self.saved[key] -= 1
        if not self.saved[key]:
            del self.saved[key]
            self.bytes -= tensor.untyped_storage().nbytes()


class Saved:
    """A tensor that lives as long as the node of the graph that saved it."""

    def __init__(self, tensor: Tensor, held: Held):
        self.tensor, self.held = tensor, held

    def __del__(self) -> None:
        self.held.release(self.tensor)


@final
class PeakMemory(Measurement):
    """The most bytes that were held at once for backward passes since the measurement before, as `peak_bytes`.

    Counted are the tensors that autograd has saved and the states that stages keep until their turn,
    without weights and buffers. Of a process that trains one stage alone it is `stage/<k>/peak_bytes`. On a GPU
    `peak_allocated` is the allocator's own peak beyond weights and optimizer: gradients and scratch space are in it,
    and passes of other measurements, which are not in `peak_bytes`.
    """

    def __init__(self, *, every: Count):
        super().__init__(every=every)
        self.held = Held()
        self.trained: set[int] = set()
        self.hooks = ExitStack()

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        stages, execution = pl_module.stages, pl_module.execution
        self.held.others = lambda: _tensors([[(s.flights, s.lessons) for s in stages], execution.replies])
        self.watched = watch(stages, lambda k, x: self.trained.add(k))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # Anew each time: a level that begins gives the parameters other storages.
        self.held.leave_out(pl_module)
        self.hooks.enter_context(torch.autograd.graph.saved_tensors_hooks(self.held.pack, self.held.unpack))

    def on_train_batch_end(self, *batch: Any) -> None:
        self.hooks.close()

    def on_exception(self, *fault: Any) -> None:
        self.hooks.close()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watched.close()

    def measure(self, module: Any) -> dict[str, Tensor]:
        if not self.trained:  # an oracle has no stage of its own
            return {}
        own = "" if len(self.trained) == len(module.stages) else f"stage/{min(self.trained)}/"
        numbers = {f"{own}peak_bytes": torch.tensor(float(self.held.peak), dtype=torch.float64)}
        self.held.peak = 0
        if module.device.type == "cuda":
            there = [*module.parameters(), *module.buffers(), *_tensors(module.trainer.optimizers[0].state_dict())]
            most = torch.cuda.max_memory_allocated(module.device) - sum(t.nbytes for t in there)
            numbers[f"{own}peak_allocated"] = torch.tensor(float(most), dtype=torch.float64)
            torch.cuda.reset_peak_memory_stats(module.device)
        return numbers


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _tensors(kept: Any) -> Iterator[Tensor]:
    """Those in nested dictionaries, lists and tuples."""
    if isinstance(kept, Tensor):
        yield kept
    elif isinstance(kept, dict | list | tuple):
        for item in kept.values() if isinstance(kept, dict) else kept:
            yield from _tensors(item)
