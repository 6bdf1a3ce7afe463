"""Runs that differ in nothing but the seed, side by side with backpropagation on the same network and data."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from costate.reports.numbers import statistics
from costate.reports.reading import Run

AXES = ("arch", "method", "data")
HOW = ("method", "execution", "trainer.", "workers", "stages", "levels.coarse_method")
"""Settings of how a network is trained, not of which one and on what."""
OF_EXECUTION = ("execution.", "trainer.", "workers", "levels.coarse_method")
"""Settings that follow from an execution's name, unless that execution itself varies in them."""
PLAIN = "serial"
"""The execution that needs no mention."""


@dataclass(frozen=True)
class Group:
    """Seeds of one setting."""

    runs: list[Run]
    extras: dict[str, Any]
    """Settings that tell it from other groups with the same arch, method and data."""

    def label(self, axis: str) -> str:
        return self.runs[0].label(axis)

    @property
    def score(self) -> str:
        return self.runs[0].score

    @property
    def settings(self) -> dict[str, Any]:
        return self.runs[0].settings

    @cached_property
    def network(self) -> str:
        """What is trained, as a panel's title."""
        return ", ".join([self.label("arch"), *_words(self.extras, how=False)])

    @cached_property
    def way(self) -> str:
        """How it is trained, as a line's name."""
        return ", ".join([self.label("method"), *_words(self.extras, how=True)])

    @property
    def planar(self) -> bool:
        """Whether its samples are points in the plane."""
        return str(self.runs[0].config["data"]["_target_"]).startswith("costate.data.planar.")

    @property
    def seeds(self) -> dict[Any, list[Run]]:
        """Runs by seed: those of one seed are repeats, which say nothing of other seeds."""
        found: dict[Any, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.config.get("seed"), []).append(run)
        return found

    @property
    def firsts(self) -> list[Run]:
        """A run of each seed."""
        return [runs[0] for runs in self.seeds.values()]

    def statistics(self, name: str) -> tuple[float | None, float | None]:
        """Mean and deviation of a result over the seeds; repeats of a seed count as their mean."""
        own = ([run.results[name] for run in runs if name in run.results] for runs in self.seeds.values())
        return statistics(fmean(values) for values in own if values)


def _words(extras: dict[str, Any], how: bool) -> list[str]:
    own = {key: value for key, value in extras.items() if key.startswith(HOW) == how and value is not None}
    execution = own.pop("execution", PLAIN)
    named = [] if execution == PLAIN else [str(execution)]
    return [*named, *(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in own.items())]


def _short(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def grouped(runs: Sequence[Run]) -> list[Group]:
    """The groups, by data, network and method; extras are what varies on the same arch and data."""
    members: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        key = (run.label("data"), run.label("arch"), run.label("method"), tuple(sorted(run.settings.items())))
        members.setdefault(key, []).append(run)
    products: dict[tuple[Any, ...], list[Run]] = {}
    for key, own in members.items():
        products.setdefault(key[:2], []).append(own[0])
    values = {product: _values(firsts) for product, firsts in products.items()}
    groups = [Group(own, _extras(own[0], values[key[:2]])) for key, own in members.items()]
    return sorted(groups, key=lambda g: (g.label("data"), g.network, g.label("method") != "backprop", g.way))


def _extras(run: Run, values: dict[tuple[str, Any], set[Any]]) -> dict[str, Any]:
    """The settings of a run in which others with the same option have another value."""
    names = dict.fromkeys(name for name, _ in values)
    return {name: run.settings.get(name) for name in names if len(values.get((name, _owner(name, run)), ())) > 1}


def varied(runs: Sequence[Run]) -> list[str]:
    """Settings in which they differ; those of an option belong to its name unless it varies in them itself."""
    return list(dict.fromkeys(name for (name, _), values in _values(runs).items() if len(values) > 1))


def _values(runs: Sequence[Run]) -> dict[tuple[str, Any], set[Any]]:
    """The values of each setting, by the option that it comes with."""
    found: dict[tuple[str, Any], set[Any]] = {}
    for name in dict.fromkeys(name for run in runs for name in run.settings if name not in AXES):
        for run in runs:
            found.setdefault((name, _owner(name, run)), set()).add(run.settings.get(name))
    return found


def _owner(name: str, run: Run) -> Any:
    """The option that a setting comes with, in a run."""
    if name.startswith(OF_EXECUTION):
        return run.settings.get("execution"), run.label("method") if name.startswith("levels.") else None
    axis = name.partition(".")[0]
    return run.label(axis) if axis in AXES else run.settings.get(axis) if axis != name else None


def baseline(group: Group, groups: Sequence[Group]) -> Group | None:
    """Backpropagation on the same network, data and optimizer; in one process and as many stages, if there is a choice.

    How a network is cut changes nothing about backpropagation but its speed.
    """
    same = _what(group)
    others = [g for g in groups if g.label("method") == "backprop" and _what(g) == same]
    wish = group.settings.get("stages")
    return min(others, key=lambda g: (_serial(g) is False, g.settings.get("stages") != wish), default=None)


def _what(group: Group) -> dict[str, Any]:
    return {key: value for key, value in group.settings.items() if not key.startswith(HOW)}


def _serial(group: Group) -> bool:
    return group.settings.get("trainer.devices") == 1
