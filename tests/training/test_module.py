"""The module: what is clipped, how scores are taken, and that numbers which are none end a run in one sentence."""

import math
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from composing import config, network
from costate.core.tasks import SILENT, AtEnd, Characters, Classification, Regression, Symbols
from costate.data.planar import Ellipse
from costate.runs import RunFolder
from costate.training.module import Training, _Scores
from running import QUIET, SMALL, last, refusal


def module(clip: float | None) -> Any:
    cfg = config("method=sg")
    blocks = network((4,), 3, "arch=verlet", "arch.depth=4", "arch.width=8").cut(2)
    rules = [instantiate(node, _convert_="all") for node in (cfg.method, cfg.execution, cfg.optimizer, cfg.annealing)]
    return Training(blocks, (4,), Classification(3), *rules, clip=clip, config={})


@pytest.mark.parametrize("clip", [1.0, 0.25, None])
def test_each_group_is_clipped_by_itself(clip):
    """Norms of 3 and ½ become 1 and ½: a process that holds one stage alone comes to the same."""
    groups = [[nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(7))], [nn.Parameter(torch.ones(4))]]
    for group, norm in zip(groups, (3.0, 0.5), strict=True):
        for p in group:
            p.grad = torch.ones_like(p) * norm / sum(q.numel() for q in group) ** 0.5
    optimizer = torch.optim.SGD([{"params": group} for group in groups], lr=0.1)
    module(clip).on_before_optimizer_step(optimizer)
    norms = [torch.cat([p.grad for p in group]).norm().item() for group in groups]
    assert norms == pytest.approx([min(norm, clip or norm) for norm in (3.0, 0.5)], rel=1e-4)


class Steps:
    """A trainer that knows how long it will train."""

    estimated_stepping_batches = 1


def test_a_group_is_a_stage_or_an_interface():
    training, trainer = module(1.0), Steps()
    training.trainer = trainer
    (optimizer,), _ = training.configure_optimizers()
    found = {group["name"]: {id(p) for p in group["params"]} for group in optimizer.param_groups}
    expected = {}
    for k, stage in enumerate(training.stages):
        expected |= {f"block/{k}": set(map(id, stage.block.parameters()))}
        expected |= {f"interface/{k}": set(map(id, stage.interface.parameters()))}
    assert found == {name: own for name, own in expected.items() if own}


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


@pytest.mark.parametrize(
    ("task", "steps"),
    [
        (Classification(5), ()),
        (Regression(3), ()),
        (Symbols(5), (4,)),
        (Characters(5), (4,)),
        (AtEnd(Classification(5)), (4,)),
        (AtEnd(Regression(1)), (4,)),
    ],
)
def test_the_total_of_a_batch_is_its_score_times_its_answers(task, steps):
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(6, *steps, task.outputs, generator=generator)
    rows = (6, *steps) if isinstance(task, Symbols | Characters) else (6,)
    y = torch.randint(5, rows, generator=generator)
    if rows != (6,):
        y[0] = SILENT
    if task.score == "mse":
        y = torch.randn(6, task.outputs, generator=generator)
    metric = task.metric(across_ranks=False)
    torch.testing.assert_close((task.total(output, y).double() / task.answers(y)).float(), metric(output, y))


def test_the_loss_of_a_sequence_is_that_of_one_of_its_answers():
    """A text's val/loss was the sum over its thousands of steps, beside a train/loss of 32."""
    scores, generator = _Scores(Characters(5), alike=True), torch.Generator().manual_seed(0)
    for rows, steps in ((2, 3), (1, 8)):
        y = torch.randint(5, (rows, steps), generator=generator)
        y[0, 0] = SILENT
        scores(torch.randn(rows, steps, 5, generator=generator), y)
    found = scores.compute("val")
    torch.testing.assert_close(found["val/loss"].double(), found["val/bits"].double() * math.log(2))


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
