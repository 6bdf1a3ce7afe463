"""Functions that files of conf/ call: ${product:...}, ${adam_rate:...}. Light: imports no torch."""

from typing import Any

from omegaconf import OmegaConf


def product(a: Any, b: Any) -> Any:
    """a b, or nothing where one of them is no number: the check of the settings tells which."""
    return a * b if isinstance(a, int) and isinstance(b, int) else None


def adam_rate(batch: Any) -> Any:
    """Adam's learning rate for a size of batch: 0.002 √(batch / 128), the square-root rule (Malladi et al., 2022)."""
    return round(0.002 * (batch / 128) ** 0.5, 6) if isinstance(batch, int) and batch > 0 else 0.002


def register() -> None:
    """Makes them known to OmegaConf."""
    for function in (product, adam_rate):
        OmegaConf.register_new_resolver(function.__name__, function, replace=True)
