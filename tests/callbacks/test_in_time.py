"""What is measured of a recurrent network while it trains, and that a resumed run is an uninterrupted one."""

import copy

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer

from composing import config
from costate.callbacks.course import Curriculum
from costate.callbacks.gradients import GradientCosine, GradientQuality
from costate.training.module import Training
from recorder import Recorder

SMALL = ["arch.width=6", "span=3", "data.batch_size=4"]
TEXT = ["arch=gru", "data=text", "data.size=900", "data.length=12", *SMALL]
STACK = [*TEXT, "arch.layers=2", "stages=2"]
COPY = ["arch=lstm", "data=copy", "data.longest=3", "data.batches=6", "data.validation=2", *SMALL]


class Pause(Callback):
    """Keeps a checkpoint in the middle of an epoch."""

    def __init__(self, path, n):
        self.path, self.n = path, n

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.n:
            trainer.save_checkpoint(self.path)


def parts(words):
    cfg = config(*words)
    torch.manual_seed(0)
    data = instantiate(cfg.data)
    blocks = instantiate(cfg.arch, data.shape, data.task.outputs, _convert_="all").cut(cfg.stages)
    rules = [instantiate(node, _convert_="all") for node in (cfg.method, cfg.execution, cfg.optimizer, cfg.annealing)]
    return data, Training(blocks, data.shape, data.task, *rules, clip=1.0, config={})


class Placed(Callback):
    """Restores the loader's place, as `Checkpoints` does."""

    place = None

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["place"] = trainer.train_dataloader.state_dict()

    def on_load_checkpoint(self, trainer, pl_module, checkpoint):
        self.place = checkpoint["place"]

    def on_train_start(self, trainer, pl_module):
        if self.place is not None:
            trainer.train_dataloader.load_state_dict(self.place)


def fit(made, *callbacks, epochs=1, path=None):
    data, module = made
    recorder = Recorder()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[Placed(), *callbacks],
        logger=recorder,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **quiet,
    )
    trainer.fit(module, data, ckpt_path=path)
    return module, recorder


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize(("rule", "least"), [("backprop", 1 - 1e-6), ("none", -1.0)])
def test_the_cosine_is_that_with_backpropagation_through_the_batch_from_the_state_carried_on(rule, least, stages):
    _, recorder = fit(parts([*(TEXT if stages == 1 else STACK), f"method={rule}"]), GradientCosine(every=1))
    cosines = [list(recorder.column(f"stage/{k}/gradient_cosine").values()) for k in range(stages)]
    assert all(len(of_stage) > 5 for of_stage in cosines)
    if rule == "none":
        # Nothing comes down to the first of two.
        assert all(each == 0 for of_stage in cosines[:-1] for each in of_stage)
    assert all(least < each < 1 + 1e-6 for of_stage in cosines for each in of_stage)
    assert (max(cosines[-1]) < 0.9999) == (rule == "none")


def test_each_boundary_between_spans_has_its_quality():
    module, recorder = fit(parts([*TEXT, "method=sg"]), GradientQuality(every=1))
    # Three in a batch of four spans, and the one that the state was carried over.
    assert [0 in recorder.column(f"boundary/{k}/explained_variance") for k in range(4)] == [True, True, True, False]
    assert all(len(recorder.column(f"boundary/{k}/cosine")) > 5 for k in range(4))
    pairs = module.stages[0].interface.last
    joint = module.stages[0].interface.between.last
    assert len(pairs) == 4
    torch.testing.assert_close(torch.cat([target for _, target in pairs[::-1]]), joint[1])


def test_each_boundary_between_stages_and_each_between_their_spans_has_its_quality():
    module, recorder = fit(parts([*STACK, "method=sg"]), GradientQuality(every=1))
    logged = {name.removesuffix("/cosine") for _, numbers in recorder.rows for name in numbers if "boundary" in name}
    places = {name for name in logged if name.count("/") in (1, 3)}
    assert places == {"boundary/0", *(f"stage/{k}/boundary/{j}" for k in range(2) for j in range(4))}
    predictions, _ = module.stages[0].interface.behind.last
    assert predictions.shape == (4 * 12, 6), "a row for each step of each sample"


@pytest.mark.parametrize(
    ("words", "places"), [(TEXT, {"boundary/3/cosine"}), (STACK, {"boundary/0/cosine", "stage/1/gradient_cosine"})]
)
def test_every_measurement_goes_with_sequences(words, places):
    _, recorder = fit(parts(words), *(instantiate(node) for node in config(*words, "callbacks=all").callbacks.values()))
    logged = {name for _, numbers in recorder.rows for name in numbers}
    assert {"stage/0/gradient_cosine", "stage/0/gradient_norm", "val/perplexity", *places} <= logged


@pytest.mark.parametrize(
    "words", [[*TEXT, "method=sg", "execution.later=0.5"], [*STACK, "method=sg"], [*COPY, "method=sg"]]
)
def test_a_run_resumed_in_the_middle_of_an_epoch_is_an_uninterrupted_one(words, tmp_path):
    """States carried on, lengths and what the curriculum has seen are in the checkpoint."""
    made, path = parts(words), tmp_path / "pause.ckpt"
    again = copy.deepcopy(made)
    grow = [lambda: Curriculum(threshold=1.5)] if "data=copy" in words else []
    whole, _ = fit(made, *(each() for each in grow), Pause(path, 8), epochs=2)
    resumed, _ = fit(again, *(each() for each in grow), epochs=2, path=path)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert made[0].state_dict() == again[0].state_dict()


def test_sequences_grow_when_they_are_solved_and_only_then():
    data, _ = parts(COPY)
    _, recorder = fit((data, parts(COPY)[1]), Curriculum(threshold=1e-6), epochs=2)
    assert data.length == 1
    assert recorder.column("solved")[11] == 0
    # A coin's bit is below any threshold above 1, at once; the longest stays.
    _, recorder = fit(parts(COPY), Curriculum(threshold=3.0), epochs=2)
    assert recorder.column("solved")[11] == 3
