"""A network out of the working directory, in a handful of lines: in series, in a pipeline, resumed, evaluated."""

import pytest

from costate.runs import RunFolder
from running import QUIET, command, differences, fit, last

NETWORK = """
from torch import nn


def build(shape, classes, width=16):
    return nn.Sequential(
        nn.Linear(*shape, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )
"""
OWN = ("arch=sequential", "arch.module=nets_of_mine:build", "arch.settings={width: 8}")
DATA = ("data=ellipse", "data.train=96", "data.batch_size=16")
RUN = (*OWN, *DATA, *QUIET, "method=delayed", "stages=3", "seed=0")


@pytest.fixture
def here(tmp_path, monkeypatch):
    assert len(NETWORK.strip().splitlines()) <= 15, "what a user writes"
    (tmp_path / "nets_of_mine.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path != str(tmp_path)])
    return tmp_path


@pytest.mark.thorough
def test_a_pipeline_and_a_resumed_run_end_where_one_process_ends(here):
    whole = fit(here / "whole", *RUN, "epochs=2")
    done = command(*RUN, "epochs=2", "execution=pipeline", f"hydra.run.dir={here / 'pipeline'}", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    fit(here / "parts", *RUN, "epochs=1", "annealing=constant")
    resumed = fit(here / "parts", f"resume={here / 'parts'}", "epochs=2")
    straight = fit(here / "straight", *RUN, "epochs=2", "annealing=constant")
    skip = (".hyper_parameters", ".callbacks", ".hparams", ".loops")
    for found, expected in ((RunFolder(here / "pipeline"), whole), (resumed, straight)):
        assert [key for key in differences(last(found), last(expected)) if not key.startswith(skip)] == []
        assert found.results()["test/accuracy"] == expected.results()["test/accuracy"]
