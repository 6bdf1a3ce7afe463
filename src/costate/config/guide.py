"""What `python train.py --help` says, out of the comments in conf/. Light: imports no torch.

An axis is described where a `defaults` list takes a file from it, an option by the first line of its file's comment
that says what it is, a setting by the comment beside it.
"""

import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from costate.config import CONF

DEFAULT = re.compile(r"\s+- (?:override /?)?([\w/]+): \S+ *(?:# (.*))?$")
OTHER = re.compile(r"\s+- (\w+)$")
SETTING = re.compile(r"( *)(\w+):(?: [^#]*)?(?:# (.*))?$")
FURTHER = re.compile(r" +# (.*)$")
ASIDE_LINES = ("# @package", "# python ", "# Expects ", "# Tests use")
COLUMNS, MARGIN = 80, 36
"""Of a terminal, and of what a line is about."""
ASIDE = ("callbacks", "experiment", "debug", "logger")
"""Axes whose options' settings are not listed: their names say it all, or there are too many of them."""


def text(cfg: DictConfig, chosen: dict[str, str]) -> str:
    """Axes with their options, and the settings of the options that are chosen.

    Args:
        chosen: the option of each axis.
    """
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
    found = {key: told for path, axis in files if path.exists() for key, told in settings(path, axis)}
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


def settings(path: Path, axis: str) -> Iterator[tuple[str, str]]:
    """The settings of a file that have a comment beside them: dotted names, and the comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    package = next((line.split()[-1] for line in lines if line.startswith("# @package")), axis.replace("/", "."))
    place = [] if package in ("", "_global_") else [package]
    for other in filter(None, map(OTHER.match, lines)):
        if other[1] != "_self_":
            yield from settings(path.with_name(f"{other[1]}.yaml"), axis)
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
