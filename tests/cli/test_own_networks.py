"""A network out of the working directory, in a handful of lines: in series, in a pipeline, resumed, evaluated."""

import pytest

import costate
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
MORE = """
import math

import torch

def frozen(shape, classes):
    net = build(shape, classes, 8)
    net[1].running_mean.fill_(0.3)
    net[1].eval()
    return net


class Masked(nn.Identity):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.full((2,), -math.inf))


class Told(nn.Identity):
    def get_extra_state(self):
        return {"scale": 1.0}

    def set_extra_state(self, state):
        self.scale = state["scale"]


def masked(shape, classes):
    return nn.Sequential(nn.Linear(*shape, 8), Masked(), nn.Linear(8, classes))


def told(shape, classes):
    return nn.Sequential(nn.Linear(*shape, 8), Told(), nn.Linear(8, classes))
"""
OWN = ("arch=sequential", "arch.module=nets_of_mine:build", "arch.settings={width: 8}")
DATA = ("data=ellipse", "data.train=96", "data.batch_size=16")
RUN = (*OWN, *DATA, *QUIET, "method=delayed", "stages=3", "seed=0")


@pytest.fixture
def here(tmp_path, monkeypatch):
    assert len(NETWORK.strip().splitlines()) <= 15, "what a user writes"
    (tmp_path / "nets_of_mine.py").write_text(NETWORK + MORE)
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


def still(folder: RunFolder) -> bool:
    return bool((last(folder)["state_dict"]["stages.0.block.chain.1.running_mean"] == 0.3).all())


def test_a_norm_that_its_user_has_frozen_stays_so(here):
    """Behind stages that are measured, probed and validated, and in a run that goes on: it had been thawed."""
    words = ("arch=sequential", "arch.module=nets_of_mine:frozen", *DATA, "log_every=4", "stages=3", "seed=0")
    probed = ("callbacks=[default,stability_probe]", "callbacks.stability_probe.every=1", "trainer.progress=lines")
    once = fit(here / "frozen", *words, *probed, "epochs=2")
    assert still(once)
    assert still(fit(here / "frozen", f"resume={here / 'frozen'}", "epochs=3"))


@pytest.mark.thorough
def test_it_stays_so_in_a_pipeline(here):
    words = ("arch=sequential", "arch.module=nets_of_mine:frozen", *DATA, *QUIET, "stages=3", "seed=0", "epochs=2")
    done = command(*words, "execution=pipeline", f"hydra.run.dir={here / 'pipeline'}", cwd=here)
    assert done.returncode == 0
    assert still(RunFolder(here / "pipeline"))


@pytest.mark.parametrize("build", ["masked", "told"])
def test_a_mask_of_infinities_and_a_state_that_is_no_tensor_are_no_divergence(here, build):
    """The one had ended the run behind its first epoch as diverged, the other with an AttributeError."""
    words = ("arch=sequential", f"arch.module=nets_of_mine:{build}", *DATA, *QUIET, "stages=2", "seed=0")
    run = fit(here / "run", *words, "epochs=1")
    assert run.results()["epochs"] == 1
    net = costate.load(here / "run")
    assert net[1].scale == 1.0 if build == "told" else net[1].mask.isinf().all()
    assert (here / "run" / "network.safetensors").exists()
