"""What the comment at the top of a file in conf/experiment says: its commands, the program, the mark and the time.

    # python train.py experiment=NAME [...]       one or more commands; with -m a row for each job of the sweep
    # Answers to PROGRAM.                         or: Answers to no program: ...
    # Expects METRIC >= NUMBER, in N minutes.     of the commands above it, up to the Expects before

In place of `>= NUMBER` there may be `<= NUMBER`, or `<= NUMBER x NAME`: so many times the mean of another experiment's
first row. `Expects no number, in N minutes.` has no mark. Other lines are for readers.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import costate.config.composing  # noqa: F401  (the functions that conf/ calls)

COMMAND = "# python train.py "
ANSWERS = "# Answers to "
EXPECTS = re.compile(
    r"# Expects (no number|(?P<metric>test/\w+) (?P<sign>>=|<=) (?P<bound>\d+(\.\d+)?)( x (?P<other>\w+))?)"
    r", in (?P<minutes>\d+) minutes?\."
)
PACKAGE = "# @package _global_"


@dataclass(frozen=True)
class Mark:
    """A bound on a number of summary.json; with `other`, a factor on that number of another experiment."""

    metric: str
    sign: str
    bound: float
    other: str | None = None

    def missed(self, value: float, reference: float | None) -> bool | None:
        """Whether the value misses the mark; None where what it is relative to is not known."""
        if self.other is not None and reference is None:
            return None
        bar = self.bound * (1.0 if self.other is None or reference is None else reference)
        return not (value >= bar if self.sign == ">=" else value <= bar)


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
    params = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper.params", default={})
    programs: list[str] = []
    commands: list[str] = []
    rows: list[Row] = []
    for line in lines:
        if line.startswith(COMMAND):
            commands.append(line.removeprefix(COMMAND))
        elif line.startswith(ANSWERS):
            programs.append(line.removeprefix(ANSWERS).rstrip("."))
        elif line.startswith("# Expects "):
            rows += _rows(path, line, commands, params)
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


def _rows(path: Path, line: str, commands: Sequence[str], params: Mapping[str, object]) -> list[Row]:
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
            given = {word.partition("=")[0] for word in words}
            words = [*words[1:], *(f"{key}={value}" for key, value in params.items() if key not in given)]
        rows += [Row(path.stem, overrides, mark, int(found["minutes"])) for overrides in jobs(words)]
    return rows


def jobs(overrides: Iterable[str]) -> list[tuple[str, ...]]:
    """The jobs of a sweep, as Hydra's sweeper makes them: `a=1,2` is two."""
    choices = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element()
        sweep = override.is_sweep_override()
        choices.append([f"{key}={x}" for x in override.sweep_string_iterator()] if sweep else [override.input_line])
    return [tuple(str(word) for word in job) for job in product(*choices)]
