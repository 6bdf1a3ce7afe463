"""Measuring callbacks tell what is there when they should, and change nothing."""

import io
from statistics import fmean
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.conftest import Recorder
from composing import config, options
from costate.callbacks.gradients import GradientCosine, GradientNorms, GradientQuality
from costate.callbacks.measurement import Measurement, TrainingScore
from costate.core.measures import cosine, explained_variance, relative_error


class Counting(Measurement):
    """Measures the number of the batch."""

    def measure(self, module):
        return {"n": torch.tensor(float(module.trainer.global_step))}


def measurements(every: int) -> list:
    nodes = config("callbacks=default", f"log_every={every}").callbacks
    return [instantiate(node, _convert_="all") for node in nodes.values()]


@pytest.mark.parametrize("method", options("method"))
def test_measuring_changes_neither_weights_nor_random_numbers(fit, method):
    def state(callbacks):
        tensors = fit(f"method={method}", "clip=0.5", callbacks=callbacks, epochs=1).module.state_dict()
        return {**tensors, "random": torch.rand(3)}

    with_them, without = state(measurements(every=1)), state([])
    assert with_them.keys() == without.keys()
    for name, tensor in without.items():
        assert torch.equal(tensor, with_them[name]), name


def test_measures_every_few_batches_and_on_the_last_of_an_epoch(fit):
    run = fit(callbacks=[Counting(every=3)])  # two epochs of 8 batches
    assert run.recorder.column("n") == {n: n for n in (2, 5, 7, 8, 11, 14, 15)}


def test_callback_metrics_hold_the_mean_over_the_last_epoch(fit):
    run = fit(callbacks=measurements(every=1))
    for name in ("boundary/0/cosine", "boundary/1/relative_error", "stage/2/gradient_norm"):
        column = run.recorder.column(name)
        assert sorted(column) == list(range(16))
        assert run.means[name] == pytest.approx(fmean(column[n] for n in range(8, 16)))


def test_the_training_score_is_the_mean_over_all_batches_of_an_epoch(fit):
    """It was that of the batches which are logged: of short epochs the last one alone."""
    each, some = (fit(callbacks=[TrainingScore(every=every)]) for every in (1, 3))
    for name in ("train/loss", "train/accuracy"):
        column = each.recorder.column(name)
        assert some.recorder.column(name) == {n: column[n] for n in (2, 5, 7, 8, 11, 14, 15)}
        assert some.means[name] == pytest.approx(fmean(column[n] for n in range(8, 16)))


class Together:
    """The execution of a process that has others beside it."""

    def __init__(self, others: list[tuple[int, dict[str, float]]]):
        self.others = others

    def collect(self, rows):
        return [*rows, *self.others]


def rank(others, logger: Recorder, saved: dict[str, Any] | None = None) -> tuple[Counting, Any, Any]:
    """A measurement beside others, taken up from a checkpoint if there is one."""
    trainer = Mock(Trainer, global_step=0, is_last_batch=False, current_epoch=0, loggers=[logger])
    counting, module = Counting(every=1), Mock(LightningModule, execution=Together(others), trainer=trainer)
    counting.setup(trainer, module, "fit")
    if saved is not None:
        file = io.BytesIO()
        torch.save(saved, file)
        file.seek(0)
        counting.load_state_dict(torch.load(file, weights_only=True))
    return counting, trainer, module


def test_an_epoch_that_is_resumed_logs_the_rows_of_all_processes_once():
    """Those of others were lost, and those of the first process were logged by each of them once more."""
    logger, elsewhere = Recorder(), Recorder()
    first, trainer, module = rank([(0, {"other": 7.0})], logger)
    for trainer.global_step in (0, 1):
        first.on_before_optimizer_step(trainer, module, Mock(torch.optim.Optimizer))
    resumed, trainer, module = rank([(2, {"other": 9.0})], logger, first.state_dict())
    beside, _, _ = rank([], elsewhere, first.state_dict())
    trainer.global_step = 2
    resumed.on_before_optimizer_step(trainer, module, Mock(torch.optim.Optimizer))
    assert beside.rows == [], "what a process hands to the others it has measured itself"
    again, trainer, module = rank([], logger, resumed.state_dict())
    again.on_train_epoch_end(trainer, module)
    assert logger.column("n") == {0: 0, 1: 1, 2: 2}
    assert logger.column("other") == {0: 7, 2: 9}
    assert len(logger.rows) == 5
    assert module.log_dict.call_args.args == ({"n": 1.0, "other": 8.0},)


def test_gradient_quality_is_that_of_the_latest_fit(fit):
    run = fit("method=sg", callbacks=[GradientQuality(every=1)])
    quantities = {"cosine": cosine, "relative_error": relative_error, "explained_variance": explained_variance}
    for k, stage in enumerate(list(run.module.stages)[:-1]):
        for name, quantity in quantities.items():
            assert run.recorder.column(f"boundary/{k}/{name}")[15] == quantity(*stage.interface.last).item()
    assert not run.recorder.column("boundary/2/cosine"), "nothing is predicted behind the last stage"


def test_untrained_synthesizers_have_quality_zero(fit):
    run = fit("method=sg", callbacks=[GradientQuality(every=1)])
    names = ("cosine", "relative_error", "explained_variance")
    first, last = ([run.recorder.column(f"boundary/{k}/{name}")[0] for name in names] for k in range(2))
    assert last == pytest.approx([0, 1, 0], abs=1e-12)
    assert first == [0, 0, 0], "the next stage was answered 0, so its own answer is 0"


def test_a_late_synthesizer_is_measured_from_its_first_fit_on(fit):
    run = fit("method=sg", "execution.lag=1", callbacks=[GradientQuality(every=1)])
    assert sorted(run.recorder.column("boundary/0/cosine")) == list(range(1, 16))


@pytest.mark.parametrize("method", ["backprop", "none"])
def test_where_nothing_is_predicted_nothing_is_measured(fit, method):
    run = fit(f"method={method}", callbacks=[GradientQuality(every=1)])
    assert not [name for _, numbers in run.recorder.rows for name in numbers if name.startswith("boundary")]


@pytest.mark.parametrize("clip", ["null", "1e-3"])
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_gradient_norms_are_those_of_autograd_before_clipping(fit, clip, optimizer):
    words = ("method=backprop", f"clip={clip}", f"optimizer={optimizer}", "optimizer.lr=1e-30")
    run = fit(*words, callbacks=[GradientNorms(every=1)], epochs=1)
    x, y = list(run.trainer.train_dataloader)[-1]
    run.module.zero_grad()
    run.module.task.loss(run.module(x), y).backward()
    for k, stage in enumerate(run.module.stages):
        reference = torch.cat([p.grad.flatten() for p in stage.block.parameters()]).norm().item()
        assert run.recorder.column(f"stage/{k}/gradient_norm")[7] == pytest.approx(reference, rel=1e-5)


def test_gradient_norms_leave_interfaces_out(fit):
    class Reference(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            groups = {group["name"]: group["params"] for group in optimizer.param_groups}
            self.norms = [torch.cat([p.grad.flatten() for p in groups[f"block/{k}"]]).norm().item() for k in range(3)]

    reference = Reference()
    run = fit("method=sg", callbacks=[GradientNorms(every=1), reference], epochs=1)
    norms = [run.recorder.column(f"stage/{k}/gradient_norm")[7] for k in range(3)]
    assert norms == pytest.approx(reference.norms, rel=1e-5)


def test_a_stage_without_gradients_is_not_measured(fit):
    module = fit("method=backprop", epochs=1).module
    module.zero_grad(set_to_none=True)
    measured = GradientNorms(every=1).measure(module)
    assert measured == {}


def cosines(run) -> dict[int, list[float]]:
    return {k: list(run.recorder.column(f"stage/{k}/gradient_cosine").values()) for k in range(3)}


@pytest.mark.parametrize("smoothness", [0, 3])
def test_the_gradient_of_backpropagation_is_the_true_one(fit, smoothness):
    """With what regularisation adds to it."""
    run = fit("method=backprop", f"arch.smoothness={smoothness}", callbacks=[GradientCosine(every=1)])
    for found in cosines(run).values():
        assert found == pytest.approx([1.0] * 16, abs=1e-5)


def test_a_late_gradient_is_compared_with_the_true_one_of_its_own_batch(fit):
    """Where weights stand still it is true, where they move it is not; before it arrives there is none."""
    plain = ("method=delayed", "method.delay=2", "method.predict=false")
    still, moved = (
        cosines(fit(*plain, f"optimizer.lr={lr}", callbacks=[GradientCosine(every=1)])) for lr in (1e-12, 0.05)
    )
    for k in range(3):
        assert len(still[k]) == 16 - 2 * (2 - k)
        assert still[k] == pytest.approx([1.0] * len(still[k]), abs=1e-5)
    assert moved[2] == pytest.approx([1.0] * 16, abs=1e-5), "the last stage has its own gradient at once"
    assert min(moved[0]) < 0.99


@pytest.mark.parametrize("words", [("method=delayed", "method.delay=0"), ("method=backprop",)])
def test_a_step_on_several_batches_or_pieces_is_compared_with_none(fit, words):
    """The mean of two batches was compared with one of them: true gradients had a cosine of 0.7."""
    assert cosines(fit(*words, "method.accumulate=2", callbacks=[GradientCosine(every=1)])) == {0: [], 1: [], 2: []}


def test_a_silent_boundary_has_no_gradient_to_be_compared(fit):
    found = cosines(fit("method=none", callbacks=[GradientCosine(every=4)]))
    assert found[0] == found[1] == [0.0] * 4
    assert found[2] == pytest.approx([1.0] * 4, abs=1e-5)
