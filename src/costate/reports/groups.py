"""Run folders as data, and the groups of runs that differ in nothing but the seed. Light: imports no torch.

A run is what was set, what came out, and how it went on the way; a group stands side by side with backpropagation on
the same network and data.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, mean, stdev
from typing import Any, NamedTuple

import yaml

from costate.config.composing import places
from costate.config.schema import completed
from costate.runs import JOB
from costate.runs.files import Column, columns

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

AXES = ("arch", "method", "data")
ALIKE = {"seed", "data.shuffle_seed", "resume", "log_every", "summary", "trainer"}
"""Settings in which runs of one group may differ, besides those below the next."""
ASIDE = ("labels.", "logger.", "trainer.progress")
MEASURING = re.compile(r"costate\.callbacks\.(?!course\.)")
"""Callbacks that change nothing of the training; the user's own may."""
HOW = ("method", "execution", "trainer.", "workers", "stages", "levels.coarse_method")
"""Settings of how a network is trained, not of which one and on what."""
OF_EXECUTION = ("execution.", "trainer.", "workers", "levels.coarse_method")
"""Settings that follow from an execution's name, unless that execution itself varies in them."""


class Broken(NamedTuple):
    """A folder that gives no row, and why."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    folder: Path
    config: dict[str, Any]
    results: dict[str, Any]

    def label(self, axis: str) -> str:
        """The name of what was chosen on an axis."""
        return str(self.config["labels"][axis])

    @property
    def score(self) -> str:
        """accuracy or mse: what the test reports beside the loss."""
        names = (name[5:] for name in self.results if name.startswith("test/"))
        return next((name for name in names if name != "loss"), "loss")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What is trained, as one level of names: all but the seed and what changes nothing.

        An axis has the name of its class: `execution` is pipeline, `optimizer` is adam.
        """
        flat = dict(flatten(completed(self.config)))
        if "method.blocks" in flat:
            # Its groups of layers follow from its blocks.
            flat.pop("stages", None)
        callbacks = self.config.get("callbacks") or {}
        aside = {k for k, node in callbacks.items() if not node or MEASURING.match(str(node.get("_target_")))}
        flat = {k: v for k, v in flat.items() if not (k.startswith("callbacks.") and k.split(".")[1] in aside)}
        # costate.execution.pipeline.Pipeline -> pipeline
        kinds = {k: str(v).rpartition(".")[2].lower() for k, v in flat.items() if k.endswith("._target_")}
        named = ((k.removesuffix("._target_"), v) for k, v in (flat | kinds).items())
        alike = ALIKE | places(self.config.get("data")).keys()
        return {k: v for k, v in named if k not in alike and not k.startswith(ASIDE) and not k.endswith("._partial_")}

    @property
    def rows(self) -> int | None:
        """Of a batch; None where that is all of them, as many as these may be."""
        size, own, most = map(self.settings.get, ("data.batch_size", "method.outer_batch", "data.train"))
        if "method.outer_batch" in self.settings:
            steps, epochs = self.columns.get("epoch", ([0], [0]))
            # No more than there are, and where that is not said, an epoch of several batches has enough for them.
            size = min(own, most) if own and most else own if steps[-1] > epochs[-1] + 1 else most
        return size if isinstance(size, int) else None

    @cached_property
    def columns(self) -> dict[str, Column]:
        """metrics.csv by columns; lines that make no sense are left out."""
        return columns(self.folder / "metrics.csv")

    def timed(self, metric: str) -> list[tuple[float, float]]:
        """Seconds of the fit, and the metric, where both were logged."""
        clock = dict(zip(*self.columns.get("fit_seconds", ((), ())), strict=True))
        return [(clock[n], y) for n, y in zip(*self.columns.get(metric, ((), ())), strict=True) if n in clock]


def flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings as pairs: a.b.c, value."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tuple(node) if isinstance(node, list) else node


def find(paths: Sequence[Path]) -> tuple[list[Run], list[Broken]]:
    """The runs in and below some folders, and the folders of those that did not come to their end.

    Raises:
        ValueError: a path is not there, or there is no run in any of them.
    """
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"{path}: no such folder.")
    names = ("config.yaml", "summary.json", JOB)
    folders = {file.parent for path in paths for name in names for file in path.rglob(name)}
    # W&B has a config.yaml of its own in RUN/wandb/run-.../files.
    folders = {f for f in folders if (f.name, f.parent.parent.name) != ("files", "wandb")}
    found = [read(folder) for folder in sorted(folders, key=lambda f: [(len(part), part) for part in f.parts])]
    if not found:
        raise ValueError(f"There is no run in {', '.join(map(str, paths))} (a run's folder has a config.yaml).")
    return [run for run in found if isinstance(run, Run)], [run for run in found if isinstance(run, Broken)]


def read(folder: Path) -> Run | Broken:
    """One run."""
    try:
        summary = folder / "summary.json"
        results = json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {}
        if "error" in results:
            return Broken(folder, str(results["error"]))
        if not (folder / "config.yaml").exists():
            return Broken(folder, "it has not begun: there is no config.yaml")
        run = Run(folder, yaml.load((folder / "config.yaml").read_text(encoding="utf-8"), Loader), results)
        for axis in AXES:
            run.label(axis)
        if not results:
            done = max(run.columns.get("epoch", Column([], [0])).values or [0])
            return Broken(folder, f"it has not ended: epoch {done + 1:.0f} of {run.config['epochs']}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        return Broken(folder, f"it cannot be read: {type(error).__name__}: {str(error).splitlines()[0]}")
    return run


@dataclass(frozen=True)
class Group:
    """Seeds of one setting.

    Attributes:
        extras: settings that tell it from other groups with the same arch, method and data.
    """

    runs: list[Run]
    extras: dict[str, Any]

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
        return ", ".join([self.label("arch"), *self._words(how=False)])

    @cached_property
    def way(self) -> str:
        """How it is trained, as a line's name."""
        return ", ".join([self.label("method"), *self._words(how=True)])

    def _words(self, how: bool) -> list[str]:
        # Runs of different lengths are lines of one panel; yet a baseline has the same length, and is ended alike.
        of_way = (*HOW, "epochs", "callbacks.")
        own = {k: v for k, v in self.extras.items() if k.startswith(of_way) == how and v is not None}
        execution = own.pop("execution", "serial")
        texts = {k: f"[{','.join(map(str, v))}]" if isinstance(v, tuple) else str(v) for k, v in own.items()}
        named = [] if execution == "serial" else [str(execution)]
        return [*named, *(f"{key.rpartition('.')[2]}={text}" for key, text in texts.items())]

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
    return sorted(
        groups, key=lambda g: (g.label("data"), natural(g.network), g.label("method") != "backprop", natural(g.way))
    )


def natural(text: str) -> list[Any]:
    """To sort by, numbers by their value: stages=2 is before stages=16."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


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
    axis, *inner = name.split(".")
    if axis == "callbacks":
        # A data set may bring one, and what one is set to is told where another run has it otherwise.
        return run.label("data"), run.settings.get(f"callbacks.{inner[0]}") if inner[1:] else None
    return run.label(axis) if axis in AXES else run.settings.get(axis) if axis != name else None


def baseline(group: Group, groups: Sequence[Group]) -> Group | None:
    """Backpropagation on the same network, data and optimizer; in one process and as many stages, if there is a choice.

    How a network is cut changes nothing about backpropagation but its speed.
    """

    def what(group: Group) -> dict[str, Any]:
        return {key: value for key, value in group.settings.items() if not key.startswith(HOW)}

    def unlike(other: Group) -> tuple[bool, bool]:
        return other.settings.get("trainer.devices") != 1, other.settings.get("stages") != group.settings.get("stages")

    others = [g for g in groups if g.label("method") == "backprop" and what(g) == what(group)]
    return min(others, key=unlike, default=None)


def statistics(values: Iterable[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; None where there are not as many numbers, or not all are finite."""
    values = list(values)
    spread = len(values) > 1 and all(map(math.isfinite, values))
    return mean(values) if values else None, stdev(values) if spread else None
