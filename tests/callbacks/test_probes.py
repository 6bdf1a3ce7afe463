"""Probes of stability and of states: their numbers are what they say, and a training does not feel them."""

import json

import pytest
import torch
from torch.func import jacrev

from composing import config
from costate.callbacks.probes import read
from costate.config.schema import check
from costate.core.measures import amplification, jacobian, layer_jacobians, products, states
from running import QUIET, SMALL, command, differences, fit, last
from small import INTEGRATORS, REVERSIBLE, block, dense

PROBES = ("callbacks=[all,early_stopping]", "callbacks.stability_probe.every=1", "callbacks.linear_probes.rows=40")


@pytest.mark.parametrize(
    "words",
    [
        (*SMALL, "execution.lag=1", "stages=3"),
        (
            "data=digits",
            "data.train=160",
            "arch/form=conv",
            "arch.width=4",
            "arch.depth=2",
            "arch.norm=true",
            "epochs=2",
        ),
        ("data=surface", "data.train=96", "data.batch_size=16", "arch=mlp", "arch.norm=true", "epochs=2"),
    ],
    ids=["dense", "batch norm", "mlp"],
)
def test_all_that_can_be_switched_on_changes_no_tensor(tmp_path, words):
    """Weights, batch statistics, moments of the optimizer, and the random numbers that come next."""
    with_them = fit(tmp_path / "on", *words, *QUIET, *PROBES)
    without = fit(tmp_path / "off", *words, *QUIET, "callbacks=none")
    assert "stage/0/amplification" in with_them.results()
    on, off = (
        {key: last(run)[key] for key in ("state_dict", "optimizer_states", "execution")} for run in (with_them, without)
    )
    assert differences(on, off) == []
    generators = [last(run)["callbacks"]["Checkpoints"]["generator"] for run in (with_them, without)]
    assert torch.equal(*generators)


def test_one_is_switched_off_by_null(tmp_path):
    results = fit(tmp_path, *SMALL, *QUIET, "epochs=1", "callbacks.throughput=null").results()
    assert "samples_per_second" not in results
    assert "stage/0/gradient_norm" in results


def test_training_stops_where_the_validation_gets_no_better(tmp_path):
    words = ("callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=2")
    folder = fit(tmp_path, *SMALL, *QUIET, "epochs=9", *words, "callbacks.early_stopping.min_delta=100")
    assert last(folder)["epoch"] + 1 == 3, "one epoch to compare with, and two that were no better by 100"
    assert folder.results()["epochs"] == 3
    steps = last(folder)["global_step"]
    folder.summary.unlink()
    fit(tmp_path, f"resume={tmp_path}")
    assert (folder.results()["epochs"], last(folder)["global_step"]) == (3, steps), "what has stopped stays stopped"


@pytest.mark.parametrize(
    "callbacks", ["stability_probe", "[stability_probe,linear_probes]", "[default,early_stopping]"]
)
def test_callbacks_come_one_by_one_and_several_at_once(callbacks):
    default = "gradient_quality,gradient_norms,traffic,throughput,parallel_time,outer_iterations"
    wanted = set(callbacks.strip("[]").replace("default", default).split(","))
    assert set(check(config(f"callbacks={callbacks}")).callbacks) == wanted


@pytest.mark.parametrize("name", INTEGRATORS)
def test_jacobians_are_those_of_autograd_and_chain(name):
    """Of a network cut in two, J_n ... J_1 = ∂Y_n/∂Y_0; states are those that the blocks hand on."""
    torch.manual_seed(0)
    network = block(dense(4, 3), INTEGRATORS[name])
    parts = [network.slice(0, 2), network.slice(2, 4)]
    for part in parts:
        part.head, part.opening = (None, part.opening) if part is parts[0] else (part.head, None)
    x = torch.randn(5, 3, dtype=torch.float64)
    Y = states(parts, x)
    assert torch.equal(parts[1].leave(tuple(Y[-1].chunk(INTEGRATORS[name].fields, 1))), network(x))
    P = products(layer_jacobians(parts, x))[-1]

    def whole(h: torch.Tensor) -> torch.Tensor:
        return parts[1].propagate(parts[0].propagate(h[None])[-1])[-1][0]

    for row, found in zip(Y[0], P, strict=True):
        torch.testing.assert_close(found, jacrev(whole)(row))


@pytest.mark.parametrize("name", REVERSIBLE)
def test_symplectic_steps_keep_volume(name):
    """det P = 1: what is squeezed in one direction is stretched in another."""
    torch.manual_seed(0)
    P = products(
        layer_jacobians([block(dense(6, 3), INTEGRATORS[name], T=4.0)], torch.randn(4, 3, dtype=torch.float64))
    )
    torch.testing.assert_close(torch.linalg.det(P[-1]), torch.ones(4, dtype=torch.float64))


def test_amplification_comes_to_the_largest_singular_value_from_below():
    network = block(dense(6, 4), INTEGRATORS["resnet"], T=3.0)
    Y = torch.randn(5, 4, dtype=torch.float64)

    def through(h: torch.Tensor) -> torch.Tensor:
        return network.propagate(h)[-1]

    exact = torch.linalg.svdvals(jacobian(through, Y))[:, 0].mean()
    some, many = (amplification(through, Y, rounds) for rounds in (2, 200))
    assert some <= many * (1 + 1e-12)
    torch.testing.assert_close(many, exact)


def test_a_linear_probe_reads_what_is_linear_and_nothing_else():
    torch.manual_seed(0)
    H, seen = torch.randn(500, 6), torch.randn(500, 6)
    W = torch.randn(6, 2)
    assert (read(H, H @ W + 1, seen) - (seen @ W + 1)).abs().max() < 0.02
    product = (H[:, :1] * H[:, 1:2]).sign()
    assert (read(H, product, seen).sign() == (seen[:, :1] * seen[:, 1:2]).sign()).float().mean() < 0.6


@pytest.mark.thorough
def test_ranks_of_a_pipeline_measure_each_its_stage_and_one_of_them_writes(tmp_path):
    pytest.importorskip("wandb")
    words = (*SMALL, "trainer.progress=none", "log_every=2", "epochs=1", "execution=pipeline", "stages=2", *PROBES)
    done = command(*words, "logger=wandb", "hydra.run.dir=run", cwd=tmp_path, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "summary.json").read_text())
    names = ("amplification", "gradient_norm", "probe_accuracy")
    assert {f"stage/{k}/{name}" for k in (0, 1) for name in names} <= results.keys()
    assert len(list(tmp_path.rglob("*.wandb"))) == 1
