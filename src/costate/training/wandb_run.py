"""Weights & Biases: online where there is a key and a network, else offline; never a prompt, never a reason to fail.

W&B keeps one run a process in a global. A job that does not end its own hands it to the next job of a sweep, which
then goes on in it under a wrong name.
"""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, final

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from costate.execution.launching import meeting
from costate.runs import RunFolder, sweep_of
from costate.runs.files import write
from costate.training.loggers import Tolerant, needs

PATIENCE = 20
"""Seconds to wait for the server before a run goes offline."""
FAREWELL = 120
"""Seconds to wait at the end for what is not yet uploaded; it stays on the disk for `wandb sync`."""


def wandb(
    folder: Path,
    done: int,
    config: dict[str, Any],
    *,
    project: str,
    entity: str | None,
    name: str,
    group: str | None,
    job_type: str,
    tags: list[str],
    mode: Literal["auto", "online", "offline"],
    checkpoint: bool,
    figures: bool,
) -> Logger:
    """The W&B run of this folder, on the rank that writes; a resumed run goes on in the same one.

    Raises:
        ValueError: wandb is not installed, or refuses a project, a tag or whatever else is not what it takes.
    """
    if meeting.rank() not in (None, 0):
        return DummyLogger()
    needs("wandb", "wandb")
    identity = folder / "wandb" / "id.txt"
    identity.parent.mkdir(parents=True, exist_ok=True)
    run = _begin(
        _mode(mode),
        # An agent of a W&B sweep has chosen an id already.
        id=identity.read_text().strip() if identity.exists() else None,
        resume="allow",
        dir=str(folder),
        config=config,
        project=project,
        entity=entity,
        name=name,
        group=group or sweep_of(folder),
        job_type=job_type,
        tags=tags,
    )
    write(identity, f"{run.id}\n")
    for metric, summary in (("trainer/global_step", None), ("*", None), ("val/loss", "min")):
        step = None if metric == "trainer/global_step" else "trainer/global_step"
        run.define_metric(metric, step_metric=step, step_sync=bool(step), summary=summary)
    upload = f"wandb sync {os.path.relpath(Path(run.dir).parent)}"
    print(f"W&B, offline; to upload: {upload}" if run.offline else f"W&B: {run.url}")
    return Tolerant(OneRow(run, project), "W&B", leave=functools.partial(end, exit_code=1))


def _begin(mode: Literal["online", "offline", "disabled"], **settings: Any) -> Any:
    import wandb

    options: dict[str, Any] = {"silent": True, "init_timeout": PATIENCE, "finish_timeout": FAREWELL}
    try:
        if mode == "online":
            try:
                return wandb.init(**settings, settings=wandb.Settings(mode=mode, **options))
            except wandb.errors.UsageError:
                raise
            except wandb.Error as error:
                print(f"W&B cannot be reached, the run goes on offline: {str(error).splitlines()[0]}")
                wandb.teardown()
        return wandb.init(**settings, settings=wandb.Settings(mode="offline" if mode == "online" else mode, **options))
    except (wandb.errors.UsageError, ValueError) as error:
        # A ValueError is pydantic's, and of several lines.
        first = error.errors()[0]["msg"] if hasattr(error, "errors") else str(error).splitlines()[0]
        raise ValueError(f"logger.wandb: W&B does not take these settings: {first.rstrip('.')}.") from error


def _mode(wish: str) -> Any:
    """What the environment or the settings say, and else what a key allows."""
    import wandb
    from requests.utils import get_netrc_auth

    told = os.environ.get("WANDB_MODE")
    wish = told if told in ("online", "offline", "disabled") else wish
    hosts = (wandb.Settings().base_url, "https://api.wandb.ai")
    key = os.environ.get("WANDB_API_KEY") or any(get_netrc_auth(host) for host in hosts)
    # Online without a key would ask for one.
    return wish if wish in ("offline", "disabled") else "online" if key else "offline"


@final
class OneRow(WandbLogger):
    """What several callbacks measure on a batch waits for the first number of another batch, or for the end."""

    def __init__(self, experiment: Any, project: str):
        super().__init__(experiment=experiment, project=project)
        self._row: dict[str, Any] = {}
        self._batch: int | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if step != self._batch:
            self._write()
        self._batch = step
        self._row |= metrics

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._write()
        super().finalize(status)

    def _write(self) -> None:
        row, self._row = self._row, {}
        if row:
            super().log_metrics(row, self._batch)


def closing(train: Callable[[DictConfig, RunFolder], None], cfg: DictConfig, folder: RunFolder) -> None:
    """Trains, and ends the W&B run that this has begun, if it has; a failed job is a failed run."""
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
        import wandb

        from costate.reports.report import write as write_report

        report = write_report([folder.path], folder.path / "report")
        add("figures", "report", sorted(path for path in report.rglob("*") if path.is_file()), {})
        # Among the run's media they are seen without a download.
        run().log({f"figures/{path.stem}": wandb.Image(str(path)) for path in sorted(report.glob("*.png"))})


def add(name: str, kind: str, files: list[Path], metadata: dict[str, Any]) -> None:
    """Logs an artifact of the run; offline it waits in the run's folder."""
    import wandb

    artifact = wandb.Artifact(f"{name}-{run().id}", type=kind, metadata=json.loads(json.dumps(metadata)))
    for file in files:
        artifact.add_file(str(file), name=file.name)
    run().log_artifact(artifact)
