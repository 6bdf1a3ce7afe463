"""trainer.precision=bf16-mixed: the same run, but for rounding."""

import csv

import pytest
import torch

from costate.runs import RunFolder
from running import QUIET, SMALL, fit, last


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
