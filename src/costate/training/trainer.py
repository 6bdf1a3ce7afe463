"""The Lightning trainer of a run."""

import logging
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, final

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.profilers import PassThroughProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities import rank_zero_only

from costate.config.settings import Count
from costate.runs.files import writing
from costate.training.screen import Bar, Lines, RichBar

UNHELPFUL = (
    # Scores are those of all ranks already; the rest is rank 0's.
    "It is recommended to use .*sync_dist=True",
    # Small data sets have short epochs; every epoch writes a line of its own.
    "The number of training batches .* is smaller than the logging interval",
    # trainer=cpu has been asked for.
    "GPU available but not used",
    # Lightning's own use of a class that torch has renamed.
    ".*LeafSpec.* is deprecated",
)
"""Warnings that nobody who trains a network here can act on."""

FIXED: dict[str, Any] = {
    # config.yaml has the settings, and the table at the end the number of parameters.
    "enable_autolog_hparams": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    # The data module deals out the rows of each joint batch.
    "use_distributed_sampler": False,
}


def take_rank(rank: int) -> None:
    """Says which rank this process is, for all that rank 0 alone writes; by itself Lightning believes what any
    launcher has left in the environment.
    """
    rank_zero_only.rank = rank  # type: ignore[attr-defined]


def build(
    folder: Path,
    epochs: int,
    log_every: int,
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
    *,
    accelerator: Literal["cpu", "gpu", "auto"],
    devices: Count,
    num_nodes: Count,
    strategy: Strategy,
    precision: Literal["32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true"],
    progress: Literal["auto", "bar", "rich", "lines", "none"],
    train_batches: Count | None,
    eval_batches: Count | None,
    profiler: Literal["none", "simple", "pytorch"],
) -> Trainer:
    """A trainer that logs what the module logs, and says only what its user can act on.

    Raises:
        ValueError: a GPU is asked for and there are not as many; or half precision.
    """
    if precision.startswith("16"):
        raise ValueError(
            f"trainer.precision={precision}: float16 needs its losses scaled, once for all stages, which decoupled "
            f"stages do not share: use trainer.precision=bf16-mixed."
        )
    wanted = _accelerator(accelerator, devices)
    if wanted == "cpu" and precision.startswith("bf16"):
        _warn_of(precision)
    _prepare()
    shown = _progress(progress)
    several = devices * num_nodes > 1
    trainer = Trainer(
        accelerator=wanted,
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy if several else "auto",
        precision=precision,
        max_epochs=epochs,
        callbacks=[*callbacks, *shown],
        logger=loggers,
        log_every_n_steps=log_every,
        limit_train_batches=train_batches,
        limit_val_batches=eval_batches,
        limit_test_batches=eval_batches,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in shown),
        profiler=_profiler(profiler, folder),
        default_root_dir=folder,
        # One process is no task of SLURM's or of another launcher's, whatever that has told it.
        plugins=[CheckpointFile(), *([] if several else [LightningEnvironment()])],
        **FIXED,
    )
    # A run has ears of its own. Lightning's handler of SIGTERM broadcasts in the midst of whatever a rank is about, and
    # that of a preemption saves in the middle of a batch.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def _accelerator(wish: str, devices: int) -> str:
    there = torch.cuda.device_count()
    if wish == "auto":
        return "gpu" if there >= devices else "cpu"
    if wish == "gpu" and there == 0:
        raise ValueError("trainer=gpu: torch sees no GPU on this machine; use trainer=cpu.")
    if wish == "gpu" and there < devices:
        raise ValueError(f"trainer.devices={devices} is more than the {there} GPUs of this machine.")
    return wish


@rank_zero_only
def _warn_of(precision: str) -> None:
    slower = bfloat16_over_float32()
    if slower > 1:
        told = f"this processor multiplies bfloat16 {slower:.1f} times as slowly as float32: 32-true is quicker here."
        print(f"trainer.precision={precision}: {told}", file=sys.stderr, flush=True)


def bfloat16_over_float32() -> float:
    """Seconds of a convolution in bfloat16 over those in float32, on this processor: 0.5 with units for it, else 20."""

    def seconds(dtype: torch.dtype) -> float:
        images, weights = torch.ones(32, 32, 16, 16, dtype=dtype), torch.ones(32, 32, 3, 3, dtype=dtype)
        start = time.perf_counter()
        torch.conv2d(images, weights)
        return time.perf_counter() - start

    half, full = (min(seconds(dtype) for _ in range(4)) for dtype in (torch.bfloat16, torch.float32))
    return half / full


def _progress(kind: str) -> list[Callback]:
    if kind == "none":
        return []
    # Drawing the bar costs about as much as a step of a small network.
    if kind == "rich":
        return [RichBar(refresh_rate=10), Lines()]
    return [Bar(refresh_rate=10), Lines()] if kind == "bar" or (kind == "auto" and sys.stdout.isatty()) else [Lines()]


def _profiler(kind: str, folder: Path) -> Profiler:
    profilers: dict[str, Any] = {"simple": SimpleProfiler, "pytorch": PyTorchProfiler}
    return profilers[kind](dirpath=folder, filename="profile") if kind in profilers else Unprofiled()


def _prepare() -> None:
    # At INFO Lightning tells which accelerators it has not found and advertises its services.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in UNHELPFUL:
        warnings.filterwarnings("ignore", message)
    # Costs next to nothing, and a resumed run on a GPU comes to the same numbers.
    torch.backends.cudnn.deterministic = True


@final
class Unprofiled(PassThroughProfiler):
    """No profiler, in one context for all: Lightning makes one for each of a batch's eighty calls, a tenth of a
    millisecond in all."""

    context = nullcontext()

    def profile(self, action_name: str) -> Any:
        return self.context


@final
class CheckpointFile(TorchCheckpointIO):
    """Torch's file, without the detour of Lightning's own by way of the folder for temporary files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes the file in place: whoever wants it whole or not at all gives it another name first.

        Raises:
            ValueError: there is no room, or the folder cannot be written to.
        """
        with writing(Path(path)) as file:
            torch.save(checkpoint, file)
