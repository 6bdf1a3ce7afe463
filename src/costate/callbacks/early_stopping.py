"""An end before the last epoch, where the validation gets no better."""

from typing import Literal

from lightning.pytorch.callbacks import EarlyStopping

from costate.settings import Amount, Count


def early_stopping(*, monitor: str, mode: Literal["min", "max"], patience: Count, min_delta: Amount) -> EarlyStopping:
    """Lightning's EarlyStopping, which also ends a run whose validation gives no finite number."""
    return EarlyStopping(monitor, mode=mode, patience=patience, min_delta=min_delta)
