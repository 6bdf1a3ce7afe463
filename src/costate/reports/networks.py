"""Networks out of run folders: rebuilt from config.yaml, with the weights of the best checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor

from costate.core.block import Block
from costate.core.measures import states
from costate.core.types import Input
from costate.data.memory import InMemory
from costate.runs import trained


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
    cfg = trained.settings(folder)
    data = instantiate(cfg["data"], _convert_="all")
    data.setup()
    blocks = trained.stages(folder, cfg, data)
    depth = sum(block.layers for block in blocks)
    arch, method = cfg["labels"]["arch"], cfg["labels"]["method"]
    h = cfg["arch"]["T"] / depth if "T" in cfg["arch"] else 1.0
    return Trained(title or f"{arch}, {method}", arch, method, depth, h, blocks, data)


def load_all(folders: Sequence[tuple[Path, str]]) -> tuple[list[Trained], list[tuple[Path, str]]]:
    """Those that load, and of the others the reason."""
    found, refused = [], []
    for folder, title in folders:
        try:
            found.append(load(folder, title))
        except (ValueError, KeyError, OSError) as error:
            refused.append((folder, f"its network cannot be rebuilt: {error}"))
    return found, refused
