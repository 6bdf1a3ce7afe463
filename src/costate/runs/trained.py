"""What a run has trained: its network out of the run's folder, and its weights for those who do without Costate."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.utils import instantiate
from torch import Tensor, nn

from costate.architectures.chain import Chain
from costate.config.composing import todays
from costate.core.block import Block

WEIGHTS = "network.safetensors"


def settings(folder: Path) -> dict[str, Any]:
    """Those of a run.

    Raises:
        ValueError: the folder holds no run that has come to a checkpoint.
    """
    for path in (folder / "config.yaml", folder / "checkpoints" / "best.ckpt"):
        if not path.exists():
            raise ValueError(f"{folder} has no {path.relative_to(folder)}: it is no run that has come to a checkpoint.")
    return todays(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))


def stages(folder: Path, cfg: dict[str, Any], data: Any) -> list[Block]:
    """The stages of a run's network with the weights of its best epoch, in evaluation mode; data need not be read.

    Raises:
        ValueError: the checkpoint is of another network.
    """
    weights = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")["state_dict"]
    network = instantiate(cfg["arch"], data.shape, data.task.outputs, _convert_="all")
    blocks = network.cut(cfg["stages"], cfg.get("balance"))
    for k, block in enumerate(blocks):
        prefix = f"stages.{k}.block."
        own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        try:
            block.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(f"{folder}: the checkpoint is not of the network that config.yaml describes.") from error
    return [block.eval() for block in blocks]


def load(run: Path | str) -> nn.Module:
    """The network of a run, by its folder: uncut, with the weights of its best epoch, in evaluation mode.

    A network of modules, such as one of arch=sequential, is the plain nn.Sequential that its function returns.

    Raises:
        ValueError: there is no such run, or its network cannot be made.
    """
    folder = Path(run)
    cfg = settings(folder)
    return joined(stages(folder, cfg, instantiate(cfg["data"], _convert_="all")))


def joined(blocks: Sequence[Block]) -> nn.Sequential:
    """The blocks one behind the other; those of plain modules give their modules, under the names that they have."""
    chains = [block.chain for block in blocks if isinstance(block, Chain)]
    if len(chains) < len(blocks):
        return nn.Sequential(*blocks).eval()
    modules: dict[str, Any] = {name: module for chain in chains for name, module in chain._modules.items()}
    return nn.Sequential(OrderedDict(modules)).eval()


def weights(blocks: Sequence[Block]) -> dict[str, Tensor]:
    """Parameters and buffers of the uncut network: of plain modules by their own names, of layers that are steps in
    time stacked, a row a layer.
    """
    found: dict[str, list[Tensor]] = {}
    for block in blocks:
        for name, tensor in block.state_dict().items():
            found.setdefault(name.removeprefix("chain."), []).append(tensor.detach().cpu())
    return {name: torch.cat(parts) if len(parts) > 1 else parts[0].clone() for name, parts in found.items()}


def save(blocks: Sequence[Block], folder: Path) -> None:
    """`network.safetensors`, which needs neither Costate nor pickle to be read."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in weights(blocks).items()}, folder / WEIGHTS)
