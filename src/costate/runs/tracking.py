"""The end of a W&B run: its summary, its artifacts, and `finish`, whatever became of the job.

W&B keeps one run a process in a global. A job that does not end its own hands it to the next job of a sweep, which
then goes on in it under a wrong name.
"""

import contextlib
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from costate.runs import RunFolder

Train = Callable[[DictConfig, RunFolder], None]


def closing(train: Train) -> Train:
    """Ends the W&B run that a training has begun, if it has; a failed job is a failed run."""

    @functools.wraps(train)
    def tracked(cfg: DictConfig, folder: RunFolder) -> None:
        try:
            train(cfg, folder)
        except BaseException:
            end(exit_code=1)
            raise
        try:
            if run() is not None:
                deliver(cfg, folder)
        except Exception as fault:  # the training has come to its end
            print(f"W&B has not got the results ({fault}): they are in {folder}.", file=sys.stderr)
        end(exit_code=0)

    return tracked


def run() -> Any:
    """The W&B run of this process, or None; W&B is not imported for it."""
    return sys.modules["wandb"].run if "wandb" in sys.modules else None


def end(exit_code: int) -> None:
    if run() is not None:
        try:
            run().finish(exit_code=exit_code)
        except Exception:  # its service is gone, and nothing that was trained with it; the next job has one of its own
            with contextlib.suppress(Exception):
                sys.modules["wandb"].teardown()
            # A run that could not end stays where `run` looks for one.
            sys.modules["wandb"].run = None  # type: ignore[attr-defined]


def deliver(cfg: DictConfig, folder: RunFolder) -> None:
    """Puts the results into the summary, and what the settings ask for into artifacts."""
    settings = cfg.logger.wandb
    run().summary.update({name: value for name, value in folder.results().items() if name != "overrides"})
    if settings.checkpoint:
        add("checkpoint", "model", [folder.path / "checkpoints" / "best.ckpt", folder.config], folder.results())
    if settings.figures:
        from costate.reports.report import write

        report = write([folder.path], folder.path / "report")
        add("figures", "report", sorted(path for path in report.rglob("*") if path.is_file()), {})
        show(sorted(report.glob("*.png")))


def show(pictures: list[Path]) -> None:
    """Figures among the run's media, where they are seen without a download."""
    import wandb

    run().log({f"figures/{path.stem}": wandb.Image(str(path)) for path in pictures})


def add(name: str, kind: str, files: list[Path], metadata: dict[str, Any]) -> None:
    """Logs an artifact of the run; offline it waits in the run's folder."""
    import wandb

    artifact = wandb.Artifact(f"{name}-{run().id}", type=kind, metadata=json.loads(json.dumps(metadata)))
    for file in files:
        artifact.add_file(str(file), name=file.name)
    run().log_artifact(artifact)
