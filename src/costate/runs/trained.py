"""What a run has trained: its network out of the run's folder, and its weights for those who do without Costate."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.utils import instantiate
from torch import Tensor, nn

from costate.architectures.chain import Chain
from costate.config.composing import todays
from costate.core.block import Block
from costate.core.types import Shape
from costate.runs.files import write

WEIGHTS = "network.safetensors"
SAMPLES = "samples.json"
"""What the network takes and gives: shape, outputs, names of classes, mean and deviation of each channel."""


def settings(folder: Path) -> dict[str, Any]:
    """Those of a run.

    Raises:
        ValueError: the folder holds no run that has come to a checkpoint.
    """
    for path in (folder / "config.yaml", folder / "checkpoints" / "best.ckpt"):
        if not path.exists():
            raise ValueError(f"{folder} has no {path.relative_to(folder)}: it is no run that has come to a checkpoint.")
    return todays(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))


def network(folder: Path, cfg: dict[str, Any], shape: Shape, outputs: int) -> Block:
    """The network of a run with the weights of its best epoch, in evaluation mode.

    In float32, whatever it was trained in, and uncut, so that nobody asks where it was cut.

    Raises:
        ValueError: the checkpoint is of another network.
    """
    saved = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")["state_dict"]
    (block,) = instantiate(cfg["arch"], shape, outputs, _convert_="all").cut(1)
    prefixes = [f"stages.{k}.block." for k in range(cfg["stages"])]
    parts = [{name.removeprefix(p): θ for name, θ in saved.items() if name.startswith(p)} for p in prefixes]
    try:
        block.load_state_dict(uncut(parts))
    except RuntimeError as error:
        raise ValueError(f"{folder}: the checkpoint is not of the network that config.yaml describes.") from error
    return block.eval()


def load(run: Path | str) -> nn.Module:
    """The network of a run, by its folder: uncut, with the weights of its best epoch, in evaluation mode.

    It takes samples as training did, x ← (x − mean) / deviation, channel by channel, with the numbers of samples.json.
    A network of modules, such as one of arch=sequential, is the plain nn.Sequential that its function returns. The
    weights are in float32; those of trainer.precision=64-true have all of their digits in network.safetensors.

    Raises:
        ValueError: there is no such run, or its network cannot be made.
    """
    folder = Path(run)
    cfg, known = settings(folder), folder / SAMPLES
    if known.exists():
        samples = json.loads(known.read_text(encoding="utf-8"))
        return plain(network(folder, cfg, tuple(samples["shape"]), samples["outputs"]))
    data = instantiate(cfg["data"], _convert_="all")
    return plain(network(folder, cfg, data.shape, data.task.outputs))


def plain(block: Block) -> nn.Sequential:
    """The plain modules of a block that is made of them, under the names that they have; of another one the block."""
    modules: dict[str, Any] = block.chain._modules if isinstance(block, Chain) else {"0": block}
    return nn.Sequential(OrderedDict(modules)).eval()


def uncut(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Parameters and buffers of a network, from those of its stages: of plain modules by their own names, of layers
    that are steps in time stacked, a row a layer; and whatever else a module keeps as its state.
    """
    found: dict[str, list[Any]] = {}
    for part in parts:
        for name, kept in part.items():
            found.setdefault(name, []).append(kept.detach().cpu().clone() if isinstance(kept, Tensor) else kept)
    return {name: torch.cat(rows) if len(rows) > 1 else rows[0] for name, rows in found.items()}


def weights(blocks: Iterable[Block]) -> dict[str, Tensor]:
    """Those of the uncut network, plain modules under the names that they have."""
    whole = uncut(block.state_dict() for block in blocks)
    return {name.removeprefix("chain."): kept for name, kept in whole.items() if isinstance(kept, Tensor)}


def describe(samples: Mapping[str, Any], folder: Path) -> None:
    """`samples.json`, without which nobody could give the network pictures of their own."""
    write(folder / SAMPLES, json.dumps(samples) + "\n")


def save(blocks: Iterable[Block], folder: Path) -> None:
    """`network.safetensors`, which needs neither Costate nor pickle to be read."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in weights(blocks).items()}, folder / WEIGHTS)
