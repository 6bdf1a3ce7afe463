"""Samples per second by a clock that the training itself moves, and the time that stages would take side by side."""

from types import SimpleNamespace

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from costate.callbacks import speed
from costate.callbacks.speed import ParallelTime, Throughput
from running import QUIET, SMALL, fit

BATCH, BATCHES = 4, 5


@pytest.fixture
def clock(monkeypatch):
    """Stands still until somebody adds to `now`."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


class Slow(lightning.LightningModule):
    """The first two batches take 10 s each, later ones 2 s, a validation 1000 s."""

    def __init__(self, clock):
        super().__init__()
        self.automatic_optimization = False
        self.layer, self.clock, self.batches = nn.Linear(1, 1), clock, 0

    def training_step(self, batch, i):
        self.clock.now += 10 if self.batches < 2 else 2
        self.batches += 1
        self.optimizers().step()

    def validation_step(self, batch, i):
        self.clock.now += 1000 / BATCHES

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters())


def fitted(clock, callback, folder, epochs=2, checkpoint=None, callbacks=(), **settings):
    data = DataLoader(TensorDataset(torch.zeros(BATCH * BATCHES, 1)), batch_size=BATCH)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[callback, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )
    trainer.fit(Slow(clock), data, data, ckpt_path=checkpoint)
    trainer.save_checkpoint(folder / "end.ckpt")
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("settings", [{}, {"val_check_interval": 2}])
def test_neither_validation_nor_the_first_batches_count(clock, tmp_path, settings):
    measured = fitted(clock, Throughput(warmup=2), tmp_path, **settings)
    assert measured["samples_per_second"] == BATCH / 2


def test_fit_seconds_count_everything(clock, tmp_path):
    assert fitted(clock, Throughput(warmup=2), tmp_path)["fit_seconds"] == 2 * 10 + 8 * 2 + 2 * 1000


def test_a_run_that_is_over_before_it_is_warm_is_measured_all_the_same(clock, tmp_path):
    measured = fitted(clock, Throughput(warmup=100), tmp_path, epochs=1)
    assert measured["samples_per_second"] == pytest.approx(5 * BATCH / (2 * 10 + 3 * 2))


def test_a_resumed_run_goes_on_counting(clock, tmp_path):
    fitted(clock, Throughput(warmup=2), tmp_path, epochs=1)
    clock.now += 10_000
    measured = fitted(clock, Throughput(warmup=0), tmp_path, epochs=2, checkpoint=tmp_path / "end.ckpt")
    # 3 batches of 2 s before; then, the module being new, 2 of 10 s and 3 of 2 s.
    assert measured["samples_per_second"] == pytest.approx(8 * BATCH / (3 * 2 + 2 * 10 + 3 * 2))
    assert measured["fit_seconds"] == 2 * (2 * 10 + 3 * 2 + 1000)


def test_a_run_that_is_resumed_within_an_epoch_is_measured(clock, tmp_path):
    class Save(lightning.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 2:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    fitted(clock, Throughput(warmup=0), tmp_path, epochs=1, callbacks=[Save()])
    clock.now += 10_000
    measured = fitted(clock, Throughput(warmup=0), tmp_path, epochs=1, checkpoint=tmp_path / "middle.ckpt")
    # 2 batches of 10 s and one of 2 s before; then, the module being new, 2 of 10 s.
    assert measured["samples_per_second"] == pytest.approx(5 * BATCH / (4 * 10 + 2))


def test_the_samples_of_all_replicas_count(clock, tmp_path, monkeypatch):
    """The ranks of a pipeline are none: all see the same batch."""
    monkeypatch.setattr(lightning.Trainer, "distributed_sampler_kwargs", {"num_replicas": 3, "rank": 1})
    assert fitted(clock, Throughput(warmup=2), tmp_path)["samples_per_second"] == 3 * BATCH / 2


@pytest.mark.parametrize(
    ("method", "lag", "share"), [("sg", 1, 0.9), ("sg", 0, 1.0), ("greedy", 0, 0.9), ("backprop", 1, 1.0)]
)
def test_only_decoupled_stages_would_be_faster_side_by_side(tmp_path, method, lag, share):
    """With lag 0 the first synthesizer waits for the last stage, and its stage's next batch waits for it. A local loss
    waits for nobody, yet once it counted as locked.
    """
    results = fit(tmp_path, *SMALL, *QUIET, f"method={method}", f"execution.lag={lag}", "stages=2").results()
    series, theoretical = results["series_seconds"], results["theoretical_seconds"]
    assert 0 < theoretical <= series < results["fit_seconds"]
    assert theoretical <= share * series
    assert (theoretical == series) == (share == 1)


class Module(lightning.LightningModule):
    """Has an execution that has worked so much, on such a device, and keeps what is logged."""

    def __init__(self, work, device):
        super().__init__()
        self.execution, self.place, self.logged = SimpleNamespace(work=lambda: work), device, {}

    @property
    def device(self):
        return torch.device(self.place)

    def log_dict(self, numbers):
        self.logged |= numbers


def logged(callback, work, device="cpu"):
    trainer, module = lightning.Trainer(accelerator="cpu", logger=False), Module(work, device)
    callback.on_fit_start(trainer, module)
    callback.on_train_epoch_end(trainer, module)
    return module.logged


def test_the_slowest_stage_and_what_was_locked_count_and_a_resumed_run_goes_on():
    first = ParallelTime()
    assert logged(first, {"stage/0": 3.0, "stage/1": 5.0, "locked": 1.0}) == {
        "series_seconds": 9.0,
        "theoretical_seconds": 6.0,
    }
    second = ParallelTime()
    second.load_state_dict(first.state_dict())
    assert logged(second, {"stage/0": 4.0}) == {"series_seconds": 13.0, "theoretical_seconds": 8.0}


@pytest.mark.parametrize(("work", "device"), [({}, "cpu"), ({"stage/0": 1.0}, "cuda")])
def test_without_stages_in_turn_or_behind_a_gpus_back_there_is_no_number(work, device):
    assert logged(ParallelTime(), work, device) == {}
