"""The time that stages would take side by side, out of a run in series."""

from types import SimpleNamespace

import lightning
import pytest
import torch

from costate.callbacks.speed import ParallelTime
from running import QUIET, SMALL, fit


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
