"""What a process makes for its run: it removes nothing else should the run be refused. Light: imports no torch."""

import contextlib
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

_made: set[Path] = set()


def note(path: Path) -> None:
    """Remembers of a file or folder that is about to be made, and of those above it, which are not there yet."""
    path = path.absolute()
    _made.update(place for place in (path, *path.parents) if not place.exists())


def made(path: Path) -> None:
    """Remembers a folder that was not there before."""
    _made.add(path.absolute())


def remove(folder: Path, *files: Path) -> None:
    """Removes files, then the folder and those above it, as far as this process has made them and they are empty."""
    with contextlib.suppress(OSError):
        for file in files:
            if file in _made:
                file.unlink(missing_ok=True)
        for place in (folder, *folder.parents):
            if place not in _made:
                break
            place.rmdir()


class Beginning(Callback):
    """Looks, before Hydra makes the folder of a run, what is there already."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        note(Path(config.hydra.run.dir))
