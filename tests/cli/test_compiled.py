"""compile=true: the same run, but for rounding."""

import csv
import shutil

import pytest
import torch

from costate.runs import RunFolder
from costate.runs.program import INTERRUPTED
from running import QUIET, SMALL, command, differences, interrupted, last, refusal

needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no compiler")


def losses(folder: RunFolder) -> list[float]:
    """Of the batches that metrics.csv has a row for."""
    with folder.metrics.open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def ran(path, *words: str) -> RunFolder:
    """In a process of its own: where types are checked at run time, nothing compiles."""
    done = command(*SMALL, *QUIET, "callbacks=none", f"hydra.run.dir={path}", *words, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    return RunFolder(path)


@needs_a_compiler
@pytest.mark.thorough
def test_compiled_stages_train_as_plain_ones(tmp_path):
    """Under the same names, in a pipeline too, and resumed to the same numbers."""
    words = ("method=delayed", "stages=2")
    plain, whole = ran(tmp_path / "plain", *words), ran(tmp_path / "whole", *words, "compile=true")
    assert losses(whole) == pytest.approx(losses(plain), rel=1e-4)
    ours, theirs = (last(folder)["state_dict"] for folder in (whole, plain))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(tensor, theirs[name], rtol=1e-3, atol=1e-4) for name, tensor in ours.items())
    piped = ran(tmp_path / "piped", *words, "compile=true", "execution=pipeline")
    assert not differences(last(piped)["state_dict"], ours)
    parts = tmp_path / "parts"
    where = "callbacks=none", "log_every=4", f"hydra.run.dir={parts}"
    assert interrupted(*SMALL, *words, "compile=true", *where, cwd=tmp_path).returncode == INTERRUPTED
    assert command(f"resume={parts}", cwd=tmp_path).returncode == 0
    assert not differences(last(RunFolder(parts))["state_dict"], ours)


def test_without_a_compiler_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sentence = refusal(tmp_path, *SMALL, *QUIET, "compile=true")
    assert (
        sentence == "compile=true needs a C++ compiler, and no-such-compiler is not here: install one, or leave it out."
    )
