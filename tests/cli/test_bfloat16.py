"""trainer.precision=bf16-mixed: the same run, but for rounding."""

import csv

import pytest
import torch

from costate.config.composing import composed
from costate.runs import RunFolder
from costate.training.trainer import bfloat16_over_float32
from running import QUIET, SMALL, fit, last, refusal


def losses(folder: RunFolder) -> list[float]:
    """Of the batches that metrics.csv has a row for."""
    with folder.metrics.open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.parametrize(
    "words",
    [
        ("method=backprop",),
        ("method=coarse",),
        ("method=delayed", "arch=resnet"),
        ("method=petra",),
        ("method=backprop", "arch.reversible=true"),
    ],
    ids=" ".join,
)
def test_bfloat16_in_the_passes_changes_losses_little(tmp_path, words):
    """Weights stay in float32."""
    runs = [
        fit(tmp_path / precision, *SMALL, *QUIET, "callbacks=none", *words, f"trainer.precision={precision}")
        for precision in ("32-true", "bf16-mixed")
    ]
    exact, rough = map(losses, runs)
    assert rough == pytest.approx(exact, abs=0.02)
    assert rough != exact
    assert all(tensor.dtype == torch.float32 for tensor in last(runs[1])["state_dict"].values())


@pytest.mark.parametrize(("slower", "precision"), [(20.0, "32-true"), (0.6, "bf16-mixed")])
def test_a_processor_without_units_for_bfloat16_is_told_and_not_chosen_for_it(
    tmp_path, monkeypatch, capsys, slower, precision
):
    """A run of an hour took ten of them without a word."""
    kind = "AVX2" if slower > 1 else "AVX512"
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: kind)
    monkeypatch.setattr("costate.training.trainer.bfloat16_over_float32", lambda: slower)
    assert composed("experiment=cifar_full_model").trainer.precision == precision
    assert composed("experiment=cifar_full_model", "trainer=gpu").trainer.precision == "bf16-mixed"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert composed("experiment=cifar_full_model", "trainer=ddp").trainer.precision == precision
    fit(tmp_path, *SMALL, *QUIET, "callbacks=none", "trainer.precision=bf16-mixed")
    told = "multiplies bfloat16 20.0 times as slowly as float32: 32-true is quicker here."
    assert (told in capsys.readouterr().err) == (slower > 1)


def test_what_bfloat16_costs_is_measured():
    """Between a third, of processors with units for it, and a hundred times float32; no draw is used up."""
    state = torch.get_rng_state()
    assert 1 / 3 < bfloat16_over_float32() < 100
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_whose_states_are_in_bfloat16_is_not_sent_there_once_more(tmp_path):
    """Who had chosen bf16-mixed was told to choose 32-true or bf16-mixed."""
    words = ("arch=revnet18", "arch.settings.width=4", "method=petra", "data=digits", "trainer.precision=bf16-mixed")
    assert refusal(tmp_path, *QUIET, "callbacks=none", *words) == (
        "method=petra rebuilds states from their last digits, of which half precision has too few: choose "
        "trainer.precision=32-true."
    )
