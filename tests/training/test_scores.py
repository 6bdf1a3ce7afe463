"""Scores over ranks: added up where ranks have rows of their own, and left alone where all have the same."""

from typing import Any

import pytest
import torch

from costate.tasks import Classification
from costate.training.module import _Scores


@pytest.mark.parametrize("alike", [True, False])
def test_ranks_that_are_alike_do_not_ask_each_other_for_their_scores(alike):
    """A flag set behind the metric's constructor was not heard: twelve collective calls an epoch, for nothing."""
    scores = _Scores(Classification(3), alike)
    asked = []

    def gathered(value: torch.Tensor, group: Any) -> list[torch.Tensor]:
        asked.append(value)
        return [value, value]

    for metric in (scores.loss, scores.score):
        metric.distributed_available_fn = lambda: True
        metric.dist_sync_fn = gathered
    output = torch.eye(3)[[0, 1, 2, 0]]
    scores(output, torch.tensor([0, 1, 2, 1]))
    assert scores.compute("val")["val/accuracy"] == 0.75
    assert bool(asked) == (not alike)
