"""Numbers that are none end a run in one sentence, and leave the checkpoint of the epoch before."""

import pytest
import torch

from costate.data.planar import Ellipse
from costate.runs import RunFolder
from costate.training.module import Training
from running import QUIET, SMALL, last, refusal


@pytest.mark.parametrize(
    ("hook", "sentence"),
    [
        ("on_validation_start", "In epoch 2 the validation loss is nan: lower optimizer.lr or set clip=1; checkpoints"),
        ("on_validation_end", "In epoch 2 stages.0.block.opening.1.weight is not finite: lower optimizer.lr or set"),
    ],
)
@pytest.mark.parametrize("rate", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch, hook, sentence, rate):
    plain = getattr(Training, hook)

    def spoiled(module: Training) -> None:
        if module.current_epoch == 1:
            next(module.parameters()).data.view(-1)[0] = rate
        plain(module)

    monkeypatch.setattr(Training, hook, spoiled)
    reason = refusal(tmp_path / "run", *SMALL, *QUIET, "callbacks=none", "arch.form.opening=linear")
    assert reason.startswith(sentence)
    checkpoint = last(RunFolder(tmp_path / "run"))
    assert checkpoint["epoch"] == 0
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


def test_a_training_loss_that_is_not_finite_ends_the_epoch(tmp_path):
    reason = refusal(tmp_path / "run", *SMALL, *QUIET, "callbacks=none", "optimizer=sgd", "optimizer.lr=1e30")
    assert reason.startswith(("The training loss is nan at batch", "In epoch 1 "))
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_row_of_data_that_is_not_finite_is_named(tmp_path, monkeypatch, number):
    plain = Ellipse.points

    def spoiled(self: Ellipse, n: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = plain(self, n, random)
        x[x[:, 0].argmax(), 1] = number
        return x, y

    monkeypatch.setattr(Ellipse, "points", spoiled)
    reason = refusal(tmp_path / "run", *SMALL, *QUIET, "data.validation=1", "data.test=1")
    assert reason.startswith("The train samples have numbers that are NaN or infinite in 1 of 96 rows, first in row ")
