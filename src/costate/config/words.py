"""Words of a command line: quoted for who reads them, what was probably meant by those that are none of ours, and what
`python train.py --help` says of all, out of the comments in conf/. Light: imports no torch.

There an axis is described where a `defaults` list takes a file from it, an option by the first line of its file's
comment that says what it is, a setting by the comment beside it.
"""

import difflib
import itertools
import re
import shlex
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from costate.config import CONF

PLAIN = re.compile(r"[\w./:+-]+", re.ASCII)
"""What Hydra takes as it stands."""

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

DEFAULT = re.compile(r"\s+- (?:override /?)?([\w/]+): \S+ *(?:# (.*))?$")
OTHER = re.compile(r"\s+- (\w+)$")
SETTING = re.compile(r"( *)(\w+):(?: [^#]*)?(?:# (.*))?$")
FURTHER = re.compile(r" +# (.*)$")
ASIDE_LINES = ("# @package", "# python ", "# Expects ", "# Tests use")
COLUMNS, MARGIN = 80, 36
"""Of a terminal, and of what a line is about."""
ASIDE = ("callbacks", "experiment", "debug", "logger")
"""Axes whose options' settings are not listed: their names say it all, or there are too many of them."""


def override(key: str, value: object) -> str:
    """key=value for Hydra, whatever is in the value."""
    text = str(value)
    if PLAIN.fullmatch(text):
        return f"{key}={text}"
    # Within quotes a backslash is one of the value's, unless a quote, the end or ${ comes behind it.
    inner = re.sub(r"(\\*)('|\$\{|$)", lambda found: 2 * found[1] + (found[2] and "\\" + found[2]), text)
    return f"{key}='{inner}'"


def pasted(key: str, value: object) -> str:
    """The same for a shell."""
    text = override(key, value)
    return f'"{text}"' if "'" in text and not re.search(r'["$`\\!]', text) else shlex.quote(text)


def forced(words: Sequence[str]) -> Sequence[str]:
    """A command line that resumes may set what its own axes do not have: the saved ones do, and tell what does not fit.

    a.b=c becomes ++a.b=c, which Hydra takes without looking.
    """
    if not any(word.startswith("resume=") for word in words):
        return words
    return [f"++{word}" if re.match(r"(?!hydra\.)\w+\.[\w.]+=", word) else word for word in words]


def suggestion(name: str, known: Iterable[str]) -> str:
    """The question to ask for a name that is the beginning of a known one or close to one, else nothing."""
    known = list(known)
    begun = [other for other in known if len(name) > 1 and other.startswith(name)]
    close = begun or difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def meant(name: str, known: Sequence[str], cfg: Any) -> str:
    """The question to ask for a setting that is not among those known in its place: of this last part elsewhere in all
    settings, of another name, or nearly so.
    """
    same = [key for key in leaves(cfg) if key.rpartition(".")[2] == name]
    elsewhere = [ELSEWHERE[name]] if name in ELSEWHERE else same
    return f" (did you mean {' or '.join(elsewhere[:3])}?)" if elsewhere else suggestion(name, known)


def leaves(node: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_interpolation():
        return [prefix.rstrip(".")]
    names = [str(key) for key in node if not str(key).startswith("_") and (prefix or key != "hydra")]
    return [leaf for name in names for leaf in leaves(node._get_node(name), f"{prefix}{name}.")]


def ranged(key: str, value: Any) -> str:
    """What to say of 0..2, 0-2 or [0,1,2] where one number is asked for; else nothing."""
    found = re.fullmatch(r"(\d+)(?:\.\.+|-|:)(\d+)", str(value))
    if not (found or isinstance(value, list)):
        return ""
    first, last = (int(found[1]), int(found[2])) if found else (0, 2)
    return f" (several values are a sweep: -m {key}={first},{first + 1},... or -m '{key}=range({first},{last + 1})')"


def nowhere(words: Iterable[str]) -> str | None:
    """What to say of a folder without a name, hydra.run.dir=, which would be the working directory."""
    keys = r"resume=(?!null)|hydra\.(?:run\.dir|sweep\.dir|sweep\.subdir)="
    for word in words:
        if found := re.fullmatch(rf"\+*({keys})(?:null|''|\"\")?", word.strip()):
            return f"{word.strip()} names no folder: give one, as {found[1]}runs/mine, or leave it out."
    return None


def flags(words: Sequence[str], hydras: Collection[str]) -> str | None:
    """What to say of an option with hyphens that is none of Hydra's: --arch verlet, --epochs=3."""
    for i, word in enumerate(words):
        found = re.fullmatch(r"--([a-zA-Z][\w./-]*)(?:=(.*))?", word)
        if not found or any(option.startswith(f"--{found[1]}") for option in hydras):
            continue
        value = found[2] if found[2] is not None else next((w for w in words[i + 1 : i + 2] if "=" not in w), "...")
        key = found[1].replace("-", "_")
        return f"{word}: settings are written without hyphens, as {ELSEWHERE.get(key, key)}={value}."
    return None


def guide(cfg: DictConfig, chosen: dict[str, str]) -> str:
    """What --help says: axes with their options, and the settings of those that are chosen, one on each axis."""
    lines = ["Axes (axis=option); an asterisk is what is taken now", ""]
    for axis, told in axes().items():
        lines += textwrap.wrap(f"  {axis}: {told}", COLUMNS, subsequent_indent="    ")
        now = re.split(r"[\[\],\s]+", str(chosen.get(axis)))
        options = sorted((CONF / axis).glob("*.yaml"))
        width = max(len(path.stem) for path in options)
        for path in options:
            lines += _entry(f"   {'*' if path.stem in now else ' '} {path.stem:<{width}}  ", comment(path), width + 7)
    lines += ["", "Settings (setting=value), as they would be now", ""]
    files = [(CONF / "config.yaml", "")]
    files += [(CONF / axis / f"{chosen.get(axis)}.yaml", axis) for axis in axes() if axis.split("/")[0] not in ASIDE]
    found = {key: told for path, axis in files if path.exists() for key, told in described(path, axis)}
    pairs = [(f"{key}={value}", told) for key, told in found.items() if (value := _value(cfg, key)) is not None]
    width = min(MARGIN, max(len(pair) for pair, _ in pairs))
    for pair, told in pairs:
        lines += _entry(f"  {pair:<{width}}  ", told, width + 4)
    return "\n".join(lines)


def _entry(name: str, told: str, margin: int) -> list[str]:
    """A name and what it is, in lines of a terminal's width; a name that is wider than the margin has its own."""
    above = [name.rstrip()] if len(name) > margin else []
    line = " " * margin + told if above else name + told
    wrap = textwrap.TextWrapper(COLUMNS, subsequent_indent=" " * margin, break_long_words=False, break_on_hyphens=False)
    return above + wrap.wrap(line)


def axes() -> dict[str, str]:
    """The folders of conf/ that there is a choice from, in the order of conf/config.yaml, and what each is for."""
    folders = {path.parent.relative_to(CONF).as_posix() for path in CONF.glob("*/**/*.yaml")}
    told: dict[str, str] = {}
    for path in [CONF / "config.yaml", *sorted(CONF.glob("*/**/*.yaml"))]:
        group = "" if path.parent == CONF else f"{path.parent.relative_to(CONF).as_posix()}/"
        for found in map(DEFAULT.match, path.read_text(encoding="utf-8").splitlines()):
            if found and found[2]:
                told.setdefault(group + found[1], found[2])
    roots = list(dict.fromkeys(axis.split("/")[0] for axis in told))
    ordered = sorted(folders, key=lambda axis: (roots.index(axis.split("/")[0]), axis.count("/"), axis))
    return {axis: told.get(axis, "") for axis in ordered if len(list((CONF / axis).glob("*.yaml"))) > 1}


def comment(path: Path) -> str:
    """The first line of a file's comment that is no command and no expectation, and those on which it goes on."""
    above = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    told: list[str] = []
    for line in (line for line in above if not line.startswith(ASIDE_LINES)):
        told.append(line.removeprefix("#").strip())
        if told[-1].endswith("."):
            break
    return " ".join(told)


def described(path: Path, axis: str) -> Iterator[tuple[str, str]]:
    """The settings of a file that have a comment beside them: dotted names, and the comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    package = next((line.split()[-1] for line in lines if line.startswith("# @package")), axis.replace("/", "."))
    place = [] if package in ("", "_global_") else [package]
    for other in filter(None, map(OTHER.match, lines)):
        if other[1] != "_self_":
            yield from described(path.with_name(f"{other[1]}.yaml"), axis)
    above: list[tuple[int, str]] = []
    for i, found in enumerate(map(SETTING.match, lines)):
        if found:
            depth = len(found[1])
            above = [*(pair for pair in above if pair[0] < depth), (depth, found[2])]
            if found[3]:
                further = itertools.takewhile(bool, map(FURTHER.match, lines[i + 1 :]))
                told = " ".join([found[3], *(line[1] for line in further if line)])
                yield ".".join([*place, *(name for _, name in above)]), told


def _value(cfg: DictConfig, key: str) -> str | None:
    """A setting's value as the command line takes it; None where it is no single one, or not of this run."""
    try:
        node: Any = OmegaConf.select(cfg, key, default=cfg)
    except OmegaConfBaseException:
        return "?"
    if isinstance(node, DictConfig) or key.startswith("hydra"):
        return None
    value = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
    return str(yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip())
