"""Weights & Biases: online where there is a key and a network, else offline; never a prompt, never a reason to fail."""

import functools
import os
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger
from requests.utils import get_netrc_auth

from costate.execution.launching import meeting
from costate.runs import sweep_of
from costate.runs.tracking import end
from costate.runs.writing import write
from costate.training.loggers import needs
from costate.training.one_row import OneRow
from costate.training.tolerant import Tolerant

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

    Args:
        group: null for the sweep that the run belongs to.
        mode: auto is online where there is a key.
        checkpoint, figures: what becomes an artifact, see `costate.runs.tracking`.

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

    told = os.environ.get("WANDB_MODE", wish if wish != "auto" else "")
    if told in ("online", "offline", "disabled"):
        wish = told
    hosts = (wandb.Settings().base_url, "https://api.wandb.ai")
    key = os.environ.get("WANDB_API_KEY") or any(get_netrc_auth(host) for host in hosts)
    # Online without a key would ask for one.
    return wish if wish in ("offline", "disabled") else "online" if key else "offline"
