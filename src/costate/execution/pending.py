"""What is pending between two batches, of the joint batch: a checkpoint does not tell how many replicas there were."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from costate.execution.replicas import Group, joint_rows


def joint(state: dict[str, Any], group: Group = None) -> dict[str, Any]:
    """An execution's state with the rows of all replicas, from that of each."""
    return _with_rows(state, lambda rows: joint_rows(rows, group))


def part(state: dict[str, Any], replica: int, replicas: int) -> dict[str, Any]:
    """An execution's state with the rows of one replica of so many, from that of all."""
    return _with_rows(state, lambda rows: rows[replica::replicas])


def _with_rows(state: dict[str, Any], change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    def rescaled(g: Tensor) -> Tensor:
        # A gradient of the mean over so many rows, as one of the mean over the rows that it has now.
        rows = change(g)
        return rows * (len(g) / len(rows))

    def of_flight(kept: dict[str, Any]) -> dict[str, Any]:
        # Replicas have the same weights.
        return {name: change(value) if isinstance(value, Tensor) else value for name, value in kept.items()}

    return {
        "flights": [{n: of_flight(kept) for n, kept in flights.items()} for flights in state["flights"]],
        "lessons": [{n: tuple(map(change, rows)) for n, rows in lessons.items()} for lessons in state["lessons"]],
        "gradients": {key: rescaled(g) for key, g in state["gradients"].items()},
        "states": {key: change(h) for key, h in state["states"].items()},
        "copies": state["copies"],
    }
