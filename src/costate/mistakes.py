"""What was probably meant by words of a command line that are none of ours. Light: imports no torch."""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import DictConfig

from costate.schema import suggestion

ELSEWHERE = {
    "batch": "data.batch_size",
    "dataset": "data",
    "gpus": "trainer.devices",
    "layers": "arch.depth",
    "learning_rate": "optimizer.lr",
    "limit_train_batches": "trainer.train_batches",
    "limit_val_batches": "trainer.eval_batches",
    "max_epochs": "epochs",
    "model": "arch",
    "n_layers": "arch.depth",
    "network": "arch",
    "num_epochs": "epochs",
    "num_layers": "arch.depth",
    "optim": "optimizer",
}
"""What other programs call a setting, and what it is called here."""


def meant(name: str, known: Sequence[str], cfg: Any) -> str:
    """The question to ask for a setting that is not there: of this name elsewhere, of another name, or nearly so.

    Args:
        name: its last part.
        known: the settings that are where it was looked for.
        cfg: all settings.
    """
    elsewhere = [key for key in leaves(cfg) if key.rpartition(".")[2] == name]
    if name in ELSEWHERE:
        elsewhere = [ELSEWHERE[name]]
    return f" (did you mean {' or '.join(elsewhere[:3])}?)" if elsewhere else suggestion(name, known)


def leaves(node: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_interpolation():
        return [prefix.rstrip(".")]
    names = [str(key) for key in node if not str(key).startswith("_") and (prefix or key != "hydra")]
    return [leaf for name in names for leaf in leaves(node._get_node(name), f"{prefix}{name}.")]


def flags(words: Iterable[str], known: Iterable[str]) -> str | None:
    """What to say of an option with hyphens that is none of Hydra's: --arch verlet, --epochs=3.

    Args:
        known: Hydra's own.
    """
    words, known = list(words), set(known)
    for i, word in enumerate(words):
        found = re.fullmatch(r"--([a-zA-Z][\w./-]*)(?:=(.*))?", word)
        if not found or any(option.startswith(f"--{found[1]}") for option in known):
            continue
        value = found[2] if found[2] is not None else next((w for w in words[i + 1 : i + 2] if "=" not in w), "...")
        key = found[1].replace("-", "_")
        return f"{word}: settings are written without hyphens, as {ELSEWHERE.get(key, key)}={value}."
    return None


def crowd(processes: int, accelerator: str) -> None:
    """Says it where many processes have few cores."""
    cores = os.cpu_count() or 1
    if accelerator != "gpu" and processes > 2 * cores:
        print(
            f"{processes} processes share the {cores} cores of this machine and take turns: fewer are as fast "
            "(trainer.devices, or stages and execution.replicas).",
            file=sys.stderr,
        )
