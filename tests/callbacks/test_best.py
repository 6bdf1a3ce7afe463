"""The best epoch of a run is the one that a reader takes for the best."""

import pytest
import torch

from costate.callbacks.checkpoints import Best
from costate.training.module import _Scores
from running import QUIET, SMALL, fit

EPOCHS = [(0.9, 0.3), (1.0, 0.2), (1.0, 0.1), (0.9, 0.05), (1.0, 0.15)]


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_of_equal_scores_the_lower_loss_is_the_better_one_and_the_least_loss_is_the_least(mode, sign):
    """The first epoch with the highest accuracy was the best, and its loss was reported as the run's."""
    best = Best("val/score", mode)
    better = [best.see(n, sign * score, loss) for n, (score, loss) in enumerate(EPOCHS, start=1)]
    assert better == [True, True, True, False, False]
    assert best.numbers == {
        "val/score": sign * 1.0,
        "best_epoch": 3,
        "best_epoch/val/loss": 0.1,
        "val/loss": 0.05,
        "least_loss_epoch": 4,
    }


def test_a_run_tests_its_best_epoch_and_reports_its_least_loss(tmp_path, monkeypatch):
    told = iter(EPOCHS)

    def compute(self: _Scores, prefix: str) -> dict[str, torch.Tensor]:
        score, loss = next(told) if prefix == "val" else (0.5, 1.0)
        return {f"{prefix}/loss": torch.tensor(loss), f"{prefix}/accuracy": torch.tensor(score)}

    monkeypatch.setattr(_Scores, "compute", compute)
    folder = fit(tmp_path, *SMALL, *QUIET, "epochs=5", "callbacks=none", "execution=serial")
    kept = {name: folder.results()[name] for name in ("best_epoch", "least_loss_epoch", "val/accuracy", "val/loss")}
    assert kept == {"best_epoch": 3, "least_loss_epoch": 4, "val/accuracy": 1.0, "val/loss": pytest.approx(0.05)}
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == 2, "Lightning counts from 0"
