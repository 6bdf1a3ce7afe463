"""A row of RESULTS.md is a command at the top of a file in conf/experiment; with a seed it makes a run.

    # python train.py experiment=NAME [...]       one or more commands; with -m a row for each job of the sweep
    # Answers to PROGRAM.                         or: Answers to no program: ...
    # Expects METRIC >= NUMBER, in N minutes.     of the commands above it, up to the Expects before

In place of `>= NUMBER` there may be `<= NUMBER`, or `<= NUMBER x NAME`: so many times the mean of another experiment's
first row. `Expects no number, in N minutes.` has no mark. Other lines are for readers.
"""

import json
import operator
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from costate.config import CONF
from costate.config.composing import composed, places, todays
from costate.runs import RunFolder, program
from costate.runs.files import write

COMMAND, ANSWERS, PACKAGE = "# python train.py ", "# Answers to ", "# @package _global_"
EXPECTS = re.compile(
    r"# Expects (no number|(?P<metric>test/\w+) (?P<sign>>=|<=) (?P<bound>\d+(\.\d+)?)( x (?P<other>\w+))?)"
    r", in (?P<minutes>\d+) minutes?\."
)
MADE_OF = ("src", "conf", "train.py")
ORDER = "run.json"
"""What was asked for, in the folder of each run."""
COMPARE = {">=": operator.ge, "<=": operator.le}
METRICS = {"test/accuracy": 1, "test/mse": -1}
"""What is measured, with the sign by which more of it is better."""


@dataclass(frozen=True)
class Mark:
    """A bound on a number of summary.json; with `other`, a factor on that number of another experiment."""

    metric: str
    sign: str
    bound: float
    other: str | None = None

    def missed(self, value: float, reference: float | None) -> bool | None:
        """Whether the value misses the mark; None where what it is relative to is not known."""
        unit = 1.0 if self.other is None else reference
        return None if unit is None else not COMPARE[self.sign](value, self.bound * unit)


@dataclass(frozen=True)
class Row:
    """One line of the results: a command, all its seeds.

    Attributes:
        overrides: all but the seed; the first one names the experiment.
        mark: what it must reach, if anything.
        minutes: that one run of it should take.
    """

    experiment: str
    overrides: tuple[str, ...]
    mark: Mark | None
    minutes: int

    @property
    def command(self) -> str:
        return f"python train.py {shlex.join(self.overrides)}"


@dataclass(frozen=True)
class Experiment:
    """A file of conf/experiment; `program` is what it answers to, None for a preset that answers to none."""

    name: str
    program: str | None
    rows: tuple[Row, ...]


def read(path: Path) -> Experiment:
    """The header of one file.

    Raises:
        ValueError: it is not in the form that this module's docstring shows.
    """
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    if first != PACKAGE:
        raise ValueError(f"{path.name} does not begin with the line `{PACKAGE}`.")
    programs: list[str] = []
    commands: list[str] = []
    rows: list[Row] = []
    for line in lines:
        if line.startswith(COMMAND):
            commands.append(line.removeprefix(COMMAND))
        elif line.startswith(ANSWERS):
            programs.append(line.removeprefix(ANSWERS).rstrip("."))
        elif line.startswith("# Expects "):
            rows += _rows(path, line, commands)
            commands = []
        elif not line.startswith("#"):
            break
    if len(programs) != 1 or not rows or commands:
        raise ValueError(
            f"{path.name} needs lines `{COMMAND}...`, one `{ANSWERS}...` and, below the commands, `# Expects ...`."
        )
    return Experiment(path.stem, None if programs[0].startswith("no program") else programs[0], tuple(rows))


def read_all(folder: Path) -> list[Experiment]:
    """All files of a folder, by name."""
    return [read(path) for path in sorted(folder.glob("*.yaml"))]


def _rows(path: Path, line: str, commands: Sequence[str]) -> list[Row]:
    found = EXPECTS.fullmatch(line)
    if found is None:
        raise ValueError(f"{path.name}: `{line}` is not `# Expects METRIC >= NUMBER [x NAME], in N minutes.`")
    mark = Mark(found["metric"], found["sign"], float(found["bound"]), found["other"]) if found["metric"] else None
    rows = []
    for command in commands:
        words = shlex.split(command)
        own = f"experiment={path.stem}"
        if own not in words[:2]:
            raise ValueError(f"{path.name}: `{command}` does not begin with `{own}`.")
        if words[0] == "-m":
            params = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper.params", default={})
            given = {word.partition("=")[0] for word in words}
            words = [*words[1:], *(f"{key}={value}" for key, value in params.items() if key not in given)]
        rows += [Row(path.stem, overrides, mark, int(found["minutes"])) for overrides in expanded(words)]
    return rows


def expanded(overrides: Iterable[str]) -> list[tuple[str, ...]]:
    """The jobs of a sweep, as Hydra's sweeper makes them: `a=1,2` is two."""
    choices = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element()
        sweep = override.is_sweep_override()
        choices.append([f"{key}={x}" for x in override.sweep_string_iterator()] if sweep else [override.input_line])
    return [tuple(str(word) for word in job) for job in product(*choices)]


@dataclass(frozen=True)
class Result:
    """What came of a run: its numbers, or the sentence that it failed with, or neither; when it ended, and with what
    code, where that is known.
    """

    numbers: dict[str, Any] | None = None
    error: str | None = None
    day: str = ""
    commit: str = ""


class Run:
    """One row with one seed: where it lies in the folder of all runs, whether it has ended with these settings, how it
    is started.
    """

    def __init__(self, row: Row, seed: int, folder: Path):
        self.row, self.seed = row, seed
        words = "-".join(row.overrides[1:]) or "as it is"
        self.folder = folder / row.experiment / re.sub(r"[^\w.]+", "-", words).strip("-") / f"seed{seed}"

    @cached_property
    def order(self) -> dict[str, Any]:
        """What has to be the same for a result to be this run's."""
        given = [*self.row.overrides, f"seed={self.seed}"]
        return json.loads(json.dumps({"costate": version("costate"), "given": given, "settings": settings(*given)}))

    @property
    def alone(self) -> bool:
        """Whether it has several processes, so that nothing should run beside it."""
        return self.order["settings"]["trainer"]["devices"] > 1

    def result(self) -> Result:
        """Of this very run; of another version, or with other settings, it is none."""
        path = self.folder / ORDER
        order = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        try:
            order = todays(order)
        except ValueError:  # classes of it have gone
            return Result()
        # To compose the settings takes time: only where something has been run.
        if not order or {key: order.get(key) for key in self.order} != self.order:
            return Result()
        numbers = RunFolder(self.folder).results()
        if not numbers:
            return Result(error=order.get("error"))
        return Result(numbers, day=order.get("day", ""), commit=order.get("commit", ""))

    def perform(self) -> Result:
        """Runs it, in place of what an earlier version, or one that was stopped, has left in the folder.

        Raises:
            ValueError: something else lies there, or another process is training it.
            KeyboardInterrupt: the run was stopped; it has neither ended nor failed.
        """
        if self.folder.exists():
            if not (self.folder / ORDER).exists() and any(self.folder.iterdir()):
                raise ValueError(f"{self.folder} holds something that is no run of an experiment: choose other --runs.")
            with RunFolder(self.folder).lock():
                shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        # The commit is no part of the order: a result is not done again for every commit.
        order = self.order | {"commit": commit()}
        write(self.folder / ORDER, json.dumps(order))
        try:
            program.run(self.folder, *self.order["given"])
            order["day"] = date.today().isoformat()
        except ValueError as error:
            order["error"] = str(error)
        write(self.folder / ORDER, json.dumps(order, indent=2) + "\n")
        return self.result()


def known_seeds(row: Row, folder: Path) -> list[int]:
    """Those of which there is a folder."""
    names = [path.name.removeprefix("seed") for path in Run(row, 0, folder).folder.parent.glob("seed*")]
    return sorted(int(name) for name in names if name.isdecimal())


@cache
def settings(*overrides: str) -> dict[str, Any]:
    """What train.py would make of these overrides, without the place of the data."""
    cfg: Any = OmegaConf.to_container(composed(*overrides), resolve=True)
    aside = {"data.root", "data.cache"} & places(cfg["data"]).keys()
    cfg["data"] = {name: value for name, value in cfg["data"].items() if f"data.{name}" not in aside}
    return cfg


def commit() -> str:
    """The git commit of what a run is made by, with a + if that has been changed; nothing where there is no git."""
    return (_git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", *MADE_OF) else "")).lstrip("+")


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], cwd=CONF.parent, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def line(run: Run, result: Result, since: float) -> str:
    """How a run has ended, on one line."""
    name = f"{' '.join(run.row.overrides)} seed={run.seed}".removeprefix("experiment=")
    if result.numbers is None:
        return f"{name}: failed: {result.error}"
    scores = [f"{k} {v:.4g}" for k, v in result.numbers.items() if k in METRICS]
    return f"{name}: {(scores or ['ended'])[0]} in {time.monotonic() - since:.0f} s"
