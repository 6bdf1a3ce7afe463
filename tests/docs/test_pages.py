"""README and docs: every command composes, every setting, file and test that they name is there; README is short."""

import ast
import importlib
import re
import shlex
import sys
from collections import Counter
from functools import cache
from itertools import zip_longest
from pathlib import Path

import pytest

from composing import config
from costate.config.schema import check
from costate.experiments.rows import read
from pages import PAGES, PROGRAMS, ROOT, commands, fences, first, options, settings, spans

README = ROOT / "README.md"
FILE = re.compile(r"[\w.*/-]+(/|\.(py|md|json|jsonl|csv|yaml|ipynb|safetensors|html|cff|txt|sh|toml|png|svg|ckpt))")
THEIRS = re.compile(r"^(runs|report|pictures|build|data|docs/notebooks)\b(?!\.)|^(nets|mine)\.py$|CLASS|\*")
"""Names of what a reader has or makes."""

each = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def sources() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))


def words_of(job: list[str]) -> list[list[str]]:
    """The settings of a few jobs of a sweep, in which each value of each setting occurs."""
    alternatives = [values(word) for word in job]
    return [[w or own[0] for w, own in zip(row, alternatives, strict=True)] for row in zip_longest(*alternatives)]


def values(word: str) -> list[str]:
    """a=1,2 is a=1 and a=2; commas within brackets or quotes divide nothing."""
    key, sign, value = word.partition("=")
    parts = re.split(r",(?![^\[({'\"]*[\])}'\"])", value)
    return [f"{key}{sign}{part}" for part in parts]


@cache
def compose(job: tuple[str, ...]) -> None:
    """Raises what train.py would refuse it for."""
    check(config(*job))


def training(words: list[str]) -> None:
    """The arguments of train.py, one job or a sweep."""
    if "--help" in words:
        return
    sweep = "-m" in words
    words = [word for word in words if not word.startswith(("-", "hydra/", "hydra."))]
    # That each job of an experiment composes is said in tests/experiments.
    for name in [word.partition("=")[2] for word in words if word.startswith("experiment=")] if sweep else []:
        given = {word.partition("=")[0] for word in words}
        swept = read(ROOT / "conf" / "experiment" / f"{name}.yaml").rows[-1].overrides
        words += [word for word in swept if word.partition("=")[0] not in given]
    for job in words_of(words) if sweep else [words]:
        compose(tuple(job))


def module(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """python -m NAME ...: there is such a program, and it has the options."""
    name, *rest = words
    if name == "pytest":
        for word in rest:
            path_is_there(word)
        return
    path = ROOT / "src" / Path(*name.split("."))
    package = (path / "__main__.py").exists()
    assert package or path.with_suffix(".py").exists(), f"python -m {name}: there is no such program"
    if name == "costate.search":
        compose(tuple(w for w in rest if "=" in w and not re.search(r"=(tag|interval|choice|range)\(", w)))
    if name == "costate.experiments":
        assert all((ROOT / f"conf/experiment/{w}.yaml").exists() for w in rest if re.fullmatch(r"[a-z]\w+", w)), words
    given = [word for word in rest if word.startswith("--")]
    if not given and name != "costate.benchmarks":
        return
    nested = rest[:1] if name == "costate.benchmarks" else []
    monkeypatch.setattr(sys, "argv", [name, *nested, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"{name}.__main__" if package else name).main()
    assert ended.value.code == 0, f"python -m {shlex.join(words)}"
    told = capsys.readouterr().out
    assert all(re.search(rf"{option}\b", told) for option in given), f"python -m {shlex.join(words)}"


def path_is_there(name: str) -> None:
    name = name.rstrip("/")
    places = [ROOT, ROOT / "src/costate", ROOT / "docs"]
    literal = "/" not in name and re.search(rf"\b{re.escape(name)}", sources())
    assert any((place / name).exists() for place in places) or literal, f"{name} is not there"


@pytest.mark.thorough  # make check runs it
@each
def test_every_command_goes(page, monkeypatch, capsys):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for words in commands(page.read_text(encoding="utf-8")):
        program, *rest = words
        assert program in PROGRAMS, shlex.join(words)
        if "train.py" in rest:
            training(rest[rest.index("train.py") + 1 :])
        elif rest[:1] == ["-m"]:
            module(rest[1:], monkeypatch, capsys)
        elif program == "make":
            targets = [word for word in rest if "=" not in word]
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), words
        elif program == "pip":
            extras = re.findall(r"\[(.*?)\]", shlex.join(rest))
            assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras), words
        elif program in ("python", "bash"):
            path_is_there(rest[0])


@each
def test_every_setting_is_one(page):
    known, axes = settings(), options()
    for span in spans(page.read_text(encoding="utf-8")):
        if first(span) in PROGRAMS or span.startswith(("COSTATE", "$")):
            continue
        for word in span.split():
            key, sign, value = word.partition("=")
            if not sign:
                is_setting = re.fullmatch(r"[a-z]+(\.[a-z_]+)+", word) and key.partition(".")[0] in axes
                assert not is_setting or FILE.fullmatch(word) or key in known, f"{word}: no such setting"
            elif re.fullmatch(r"[a-z_]+([./][a-z_]+)*", key):
                inside = key.startswith(("arch.settings", "data.settings", "hydra", "--")) or span.startswith("@")
                assert inside or key in known or key in axes or "(" in span, f"{word}: no such setting"
                for option in re.split(r"[,|]", value.strip("[]")) if key in axes else []:
                    plain = re.fullmatch(r"\w+", option)
                    assert not plain or option in axes[key], f"{word}: no such option"


@each
def test_every_file_is_there(page):
    text = page.read_text(encoding="utf-8")
    for span in spans(text):
        if FILE.fullmatch(span) and not THEIRS.search(span):
            path_is_there(span)
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), f"{path}::{name}"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{target} is linked to and not there"


@each
def test_code_is_python_and_blocks_say_what_they_are(page):
    text = page.read_text(encoding="utf-8")
    for code in fences(text, "python"):
        ast.parse(code)
    languages = Counter(re.findall(r"^```(\w*)$", text, re.MULTILINE))
    assert set(languages) <= {"", "sh", "python", "text"}
    for block in fences(text, ""):
        raise AssertionError(f"a block that does not say whether it is sh, python or text: {block[:60]}")


def test_readme_is_of_one_screen_and_a_half():
    text = README.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= 230
    assert len(text.split()) <= 1600
    assert len(re.findall(r"!\[", text)) >= 2
    assert any(line.startswith(("make ", "python ", "git clone")) for line in lines[:25])


def test_a_command_that_does_not_go_is_noticed():
    """The check can fail."""
    with pytest.raises(Exception, match="verlett"):
        training(["arch=verlett"])
    with pytest.raises(ValueError, match="stages"):
        training(["-m", "stages=2,none"])
    with pytest.raises(AssertionError, match="no_such"):
        path_is_there("no_such.py")
    assert "method.no_such" not in settings()
    assert {"method.delay", "execution.trace", "arch.width", "method.synthesizer.width", "data.size"} <= settings()
