"""Run folders as data: what was set, what came out, and how it went on the way. Light: imports no torch."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from costate.runs import JOB

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

ALIKE = {"seed", "data.shuffle_seed", "resume", "log_every", "summary", "trainer"}
"""Settings in which runs of one group may differ, besides those below the next."""
ASIDE = ("labels.", "callbacks.", "logger.", "trainer.progress", "data.root", "data.cache")


class Broken(NamedTuple):
    """A folder that gives no row, and why."""

    folder: Path
    reason: str


class Column(NamedTuple):
    """One metric over a run: batches that were done, and values."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    folder: Path
    config: dict[str, Any]
    results: dict[str, Any]

    def label(self, axis: str) -> str:
        """The name of what was chosen on an axis."""
        return str(self.config["labels"][axis])

    @cached_property
    def score(self) -> str:
        """accuracy or mse: what the test reports beside the loss."""
        names = (name[5:] for name in self.results if name.startswith("test/"))
        return next((name for name in names if name != "loss"), "loss")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What is trained, as one level of names: all but the seed and what changes nothing.

        An axis has the name of its class: `execution` is pipeline, `optimizer` is adam.
        """
        flat = dict(flatten(self.config))
        if "method.blocks" in flat:
            # Its groups of layers follow from its blocks.
            flat.pop("stages", None)
        named = ((k.removesuffix("._target_"), _kind(v) if k.endswith("._target_") else v) for k, v in flat.items())
        return {k: v for k, v in named if k not in ALIKE and not k.startswith(ASIDE) and not k.endswith("._partial_")}

    @property
    def rows(self) -> int | None:
        """Of a batch; None where that is all of them, as many as these may be."""
        found = self.settings.get("method.outer_batch", self.settings.get("data.batch_size"))
        return found if isinstance(found, int) else None

    @cached_property
    def columns(self) -> dict[str, Column]:
        """metrics.csv by columns; lines that make no sense are left out."""
        found: dict[str, Column] = {}
        try:
            with (self.folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
                for step, numbers in rows(file):
                    for name, value in numbers:
                        column = found.setdefault(name, Column([], []))
                        column.steps.append(step + 1)
                        column.values.append(value)
        except OSError:
            return {}
        return found


def rows(file: Iterable[str]) -> Iterator[tuple[int, list[tuple[str, float]]]]:
    """The lines of a metrics.csv, as far as they have been written: step, and the numbers that there are."""
    reader = csv.reader(file)
    header = next(reader, [])
    if "step" not in header:
        return
    place = header.index("step")
    for row in reader:
        try:
            yield int(row[place]), [(n, float(v)) for n, v in zip(header, row, strict=True) if v and n != "step"]
        except (ValueError, IndexError):
            continue


def _kind(target: Any) -> str:
    """costate.execution.pipeline.Pipeline -> pipeline."""
    return str(target).rpartition(".")[2].lower()


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
        config = yaml.load((folder / "config.yaml").read_text(encoding="utf-8"), Loader)
        run = Run(folder, config, results)
        for axis in ("arch", "method", "data"):
            run.label(axis)
        if not results:
            done = max(run.columns.get("epoch", Column([], [0])).values or [0])
            return Broken(folder, f"it has not ended: epoch {done + 1:.0f} of {config['epochs']}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        return Broken(folder, f"it cannot be read: {type(error).__name__}: {str(error).splitlines()[0]}")
    return run
