"""compile=true: the same training, but for rounding."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from costate.runs import RunFolder
from running import QUIET, SMALL, command, refusal
from small import ARCHS, PRODUCTS

PROGRAM = Path(__file__).parents[1] / "compiled.py"
needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no compiler")


def errors(backend: str, *products: str) -> dict[str, float]:
    """Of compiled networks; in a process of its own, for where types are checked at run time nothing compiles."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), backend, *products],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return {words: float(error) for error, _, words in (line.partition(" ") for line in done.stdout.splitlines())}


@needs_a_compiler
@pytest.mark.thorough
def test_a_product_that_is_added_with_a_factor_keeps_it():
    """A pattern of torch's compiler left h out of V - h f(Y) K: leapfrog diverged, without a word."""
    (error,) = errors("inductor", "arch=leapfrog arch.depth=2 arch.width=4").values()
    assert error < 1e-9


@pytest.mark.thorough
def test_compiled_networks_are_the_plain_ones():
    products = [words if "width" in words else f"{words} {small(words)}".strip() for words in PRODUCTS]
    found = errors("aot_eager", *products)
    assert len(found) == len(products)
    assert {words: error for words, error in found.items() if error > 1e-9} == {}


def small(words: str) -> str:
    """Settings that make a network of this product small."""
    node = ARCHS[words.split()[0].removeprefix("arch=")]
    return " ".join(f"arch.{name}={n}" for name, n in (("depth", 4), ("width", 8)) if name in node)


@needs_a_compiler
@pytest.mark.thorough
def test_a_compiled_run_is_the_plain_one_but_for_rounding(tmp_path):
    """With late gradients and what is measured beside them; validation is the plain network's."""
    losses = []
    for words in (), ("compile=true",):
        path = tmp_path / ("compiled" if words else "plain")
        where = f"hydra.run.dir={path}", "callbacks=all", "method=delayed", "stages=2"
        done = command(*SMALL, *QUIET, *where, *words, cwd=tmp_path, limit=600)
        assert done.returncode == 0, done.stderr
        with RunFolder(path).metrics.open() as file:
            rows = list(csv.DictReader(file))
        losses.append([float(row[name]) for row in rows for name in ("train/loss", "val/loss") if row[name]])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[1] != losses[0]


def test_without_a_compiler_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sentence = refusal(tmp_path, *SMALL, *QUIET, "compile=true")
    assert (
        sentence == "compile=true needs a C++ compiler, and no-such-compiler is not here: install one, or leave it out."
    )


def test_networks_that_are_cut_in_time_are_refused(tmp_path):
    words = ("arch=lstm", "data=copy", "method=backprop", "stages=1", "compile=true")
    sentence = refusal(tmp_path, *QUIET, *words)
    assert sentence == "compile=true compiles stages in depth, and this network is cut in time: leave it out."


def test_reversible_networks_that_become_deeper_are_refused(tmp_path, monkeypatch):
    """Behind the doubling autograd expected gradients of as few layers as there had been, in a traceback."""
    monkeypatch.setattr("costate.training.module.shutil.which", lambda name: name)
    words = ("arch.reversible=true", "levels=double", "levels.count=2", "compile=true")
    assert refusal(tmp_path, *SMALL, *QUIET, *words) == (
        "compile=true with arch.reversible=true trains a network of one depth: leave one of them out, or levels."
    )
