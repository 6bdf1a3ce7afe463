"""Scores: all rows alike, however they are dealt; over ranks only where these have rows of their own."""

from typing import Any

import pytest
import torch

from costate.core.tasks import Classification
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


@pytest.mark.parametrize("sizes", [[7], [1, 6], [6, 1], [2, 4, 1]])
def test_rows_count_alike_however_they_are_dealt(sizes):
    """Loss and score of a last small batch weigh as much as its rows."""
    scores, generator = _Scores(Classification(3), alike=True), torch.Generator().manual_seed(0)
    output, y = 3 * torch.randn(7, 3, generator=generator), torch.randint(3, (7,), generator=generator)
    for rows in torch.arange(7).split(sizes):
        scores(output[rows], y[rows])
    found = scores.compute("val")
    torch.testing.assert_close(found["val/loss"], Classification(3).loss(output, y))
    torch.testing.assert_close(found["val/accuracy"], (output.argmax(1) == y).float().mean())
