"""Networks out of run folders: rebuilt from config.yaml, with the weights of the best checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor

from costate.architectures.block import Block
from costate.data.memory import InMemory
from costate.propagation import states
from costate.types import Input


@dataclass(frozen=True)
class Trained:
    """A trained network, in evaluation mode, with its data.

    Attributes:
        blocks: the stages.
        h: time step, 1 where the network has none.
    """

    title: str
    arch: str
    method: str
    depth: int
    h: float
    blocks: list[Block]
    data: InMemory

    @torch.no_grad()
    def __call__(self, x: Input) -> Float[Tensor, "batch outputs"]:
        for block in self.blocks:
            x = block(x)
        return x

    def states(self, x: Input) -> list[Tensor]:
        """The state in front of the first layer and behind each."""
        return states(self.blocks, x)

    def test(self, most: int) -> tuple[Tensor, Tensor]:
        """The first samples and labels of the test rows."""
        assert self.data.parts, "read on loading"
        rows = self.data.parts.test
        return self.data.prepare(rows.x[:most]), rows.y[:most]


def load(folder: Path | str, title: str | None = None) -> Trained:
    """The network of a run.

    Raises:
        ValueError: the folder holds no finished run, or one whose checkpoint is of another network.
    """
    folder = Path(folder)
    config, best = folder / "config.yaml", folder / "checkpoints" / "best.ckpt"
    for path in (config, best):
        if not path.exists():
            raise ValueError(f"{folder} has no {path.relative_to(folder)}: it is no run that has come to a checkpoint.")
    cfg = yaml.safe_load(config.read_text(encoding="utf-8"))
    data = instantiate(cfg["data"], _convert_="all")
    data.setup()
    weights = torch.load(best, weights_only=True, map_location="cpu")["state_dict"]
    blocks = instantiate(cfg["arch"], data.shape, data.task.outputs, _convert_="all").cut(
        cfg["stages"], cfg.get("balance")
    )
    for k, block in enumerate(blocks):
        _fill(block, weights, f"stages.{k}.block.", folder)
    depth = sum(block.layers for block in blocks)
    arch, method = cfg["labels"]["arch"], cfg["labels"]["method"]
    h = cfg["arch"]["T"] / depth if "T" in cfg["arch"] else 1.0
    return Trained(title or f"{arch}, {method}", arch, method, depth, h, [b.eval() for b in blocks], data)


def _fill(block: Block, weights: dict[str, Any], prefix: str, folder: Path) -> None:
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    try:
        block.load_state_dict(own)
    except RuntimeError as error:
        raise ValueError(f"{folder}: the checkpoint is not of the network that config.yaml describes.") from error


def load_all(folders: Sequence[tuple[Path, str]]) -> tuple[list[Trained], list[tuple[Path, str]]]:
    """Those that load, and of the others the reason."""
    found, refused = [], []
    for folder, title in folders:
        try:
            found.append(load(folder, title))
        except (ValueError, KeyError, OSError) as error:
            refused.append((folder, f"its network cannot be rebuilt: {error}"))
    return found, refused
