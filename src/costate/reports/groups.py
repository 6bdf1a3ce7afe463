"""Runs that differ in nothing but the seed, side by side with backpropagation on the same network and data."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from costate.reports.numbers import statistics
from costate.reports.reading import Run

AXES = ("arch", "method", "data")
HOW = ("method.", "execution.", "trainer.", "stages")
"""Settings of how a network is trained, not of which one and on what."""


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

    def statistics(self, name: str) -> tuple[float | None, float | None]:
        """Mean and deviation of a result over the seeds."""
        return statistics(run.results[name] for run in self.runs if name in run.results)


def _words(extras: dict[str, Any], how: bool) -> list[str]:
    return [f"{key.rpartition('.')[2]}={value}" for key, value in extras.items() if key.startswith(HOW) == how]


def grouped(runs: Sequence[Run]) -> list[Group]:
    """The groups, by data, arch and method; an extra is a setting that varies within one of these products."""
    members: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        key = (
            *map(run.label, ("data", "arch", "method")),
            tuple(sorted(run.settings.items(), key=lambda item: item[0])),
        )
        members.setdefault(key, []).append(run)
    values: dict[tuple[str, ...], dict[str, set[Any]]] = {}
    for key, own in members.items():
        for name in own[0].settings:
            values.setdefault(key[:3], {}).setdefault(name, set())
    for key, own in members.items():
        for name, seen in values[key[:3]].items():
            seen.add(own[0].settings.get(name))
    varied = dict.fromkeys(name for seen in values.values() for name, each in seen.items() if len(each) > 1)
    # The number of epochs follows from the data, and where it does not, it varies within a product.
    groups = [Group(own, {n: own[0].settings.get(n) for n in varied}) for own in members.values()]
    return sorted(groups, key=lambda g: (g.label("data"), g.network, g.label("method") != "backprop", g.way))


def baseline(group: Group, groups: Sequence[Group]) -> Group | None:
    """Backpropagation on the same network, data and optimizer; in as many stages and in one process, if there is a choice.

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
