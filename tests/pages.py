"""What README and docs say that can be held against the repository: commands, code, settings, files."""

import re
import shlex
from collections.abc import Iterator
from functools import cache

from omegaconf import DictConfig, OmegaConf

from costate.config import CONF

ROOT = CONF.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/api").glob("*.md")])
PROGRAMS = {"python", "torchrun", "srun", "make", "pip", "git", "cd", "bash", "wandb", "tensorboard"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
ASSIGNED = re.compile(r"[A-Z_]+=\S*")


def fences(text: str, language: str) -> list[str]:
    """The fenced blocks in a language; "" has none."""
    return [body for name, body in FENCE.findall(text) if name == language]


def spans(text: str) -> list[str]:
    """What stands between backquotes in running text."""
    return SPAN.findall(FENCE.sub("", text))


def commands(text: str) -> Iterator[list[str]]:
    """Command lines, from fenced blocks and from running text, without comments and without what is put in front."""
    lines = [line for block in fences(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    lines += [span for span in spans(text) if " " in span and first(span) in PROGRAMS]
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and ASSIGNED.fullmatch(words[0]):
            words = words[1:]
        if words:
            yield words


def first(line: str) -> str:
    """The program of a command line."""
    return next((word for word in line.split() if not ASSIGNED.fullmatch(word)), "")


@cache
def options() -> dict[str, set[str]]:
    """Of each axis of conf/, nested ones too, the names of its files."""
    found: dict[str, set[str]] = {}
    for path in CONF.rglob("*.yaml"):
        found.setdefault(str(path.parent.relative_to(CONF)), set()).add(path.stem)
    return found


@cache
def settings() -> set[str]:
    """Every setting that a file of conf/ has, as it is given on the command line."""
    found: set[str] = set()
    for path in CONF.rglob("*.yaml"):
        package = re.search(r"^# @package (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        place = package[1] if package else str(path.parent.relative_to(CONF)).replace("/", ".")
        prefix = "" if place in (".", "_global_") else f"{place}."
        node = OmegaConf.load(path)
        assert isinstance(node, DictConfig), path
        found |= {prefix + key for key in _keys(node)}
    return found


def _keys(node: DictConfig) -> Iterator[str]:
    for name in node:
        yield str(name)
        inner = None if OmegaConf.is_missing(node, name) else node._get_node(name)
        if isinstance(inner, DictConfig) and not inner._is_none():
            yield from (f"{name}.{key}" for key in _keys(inner))
