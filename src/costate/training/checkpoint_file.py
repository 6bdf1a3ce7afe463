"""How a checkpoint comes to the disk: written where it is to lie, and flushed."""

from pathlib import Path
from typing import Any, final

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from costate.runs.writing import writing


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
