"""Datasets of torch and LightningDataModules become rows in memory."""

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from composing import config, refusal
from costate.core.tasks import Classification, Regression
from costate.data.own import Module
from own_data import Numbers, pictures, three


def made(module: str, *overrides: str) -> Module:
    cfg = config("data=module", f"data.module=own_data:{module}", "data.batch_size=5", *overrides)
    return instantiate(cfg.data, _convert_="all")


def read(module: str, *overrides: str):
    data = made(module, *overrides)
    data.setup()
    return data


def test_pairs_of_datasets_keep_their_test_part_and_give_a_share_to_validation():
    data = read("pictures", "data.settings={rows: 40}")
    train, test = pictures(40)
    assert (data.shape, data.task.outputs, type(data.task)) == ((1, 4, 4), 3, Classification)
    assert [len(part.y) for part in data.parts] == [36, 4, 10]
    assert torch.equal(data.parts.test.x, test.tensors[0])
    assert torch.equal(data.parts.test.y, test.tensors[1])
    rows = torch.cat([data.parts.train.x, data.parts.validation.x]).flatten(1)
    assert sorted(map(bytes, rows.numpy())) == sorted(map(bytes, train.tensors[0].flatten(1).numpy()))


def test_three_datasets_are_the_three_parts_and_floats_are_a_regression():
    torch.manual_seed(0)
    data = read("three")
    torch.manual_seed(0)
    assert (data.shape, data.task.outputs, type(data.task)) == ((5,), 1, Regression)
    for part, dataset in zip(data.parts, three(), strict=True):
        order = torch.argsort(part.x[:, 0] * 256 + part.x[:, 1])
        x, y = dataset.tensors
        theirs = torch.argsort(x[:, 0] * 256 + x[:, 1])
        assert torch.equal(part.x[order], x[theirs].float())
        assert torch.equal(part.y[order], y[theirs][:, None])


def test_a_data_module_is_read_whole_and_without_its_order():
    data, own = read("Numbers"), Numbers()
    own.setup("fit")
    assert [len(part.y) for part in data.parts] == [16, 6, 4]
    assert torch.equal(data.parts.validation.x, own.rows[:6] + 1)
    rows = torch.cat([data.parts.train.x, data.parts.test.x])
    assert sorted(rows.tolist()) == sorted(own.rows.tolist())


def test_what_the_function_draws_is_the_same_in_every_process():
    """Ranks that each drew another order learned from the labels of other rows, and evaluate tested trained rows."""
    first, again, other = (read("divided", *words).parts for words in ([], [], ["data.seed=1"]))
    for one, same, elsewhere in zip(first, again, other, strict=True):
        assert torch.equal(one.x, same.x)
        assert not torch.equal(one.x, elsewhere.x)


@pytest.mark.parametrize("batched", [False, True])
def test_loaders_of_one_dataset_have_the_rows_that_their_samplers_give(batched):
    """Else test rows would be training rows."""
    parts = read("Sampled", f"data.settings={{batched: {batched}}}").parts
    ids = [sorted(part.x[:, 0].int().tolist()) for part in parts]
    assert ids == [list(range(30)), list(range(30, 34)), list(range(34, 40))]


def test_classes_that_the_test_part_alone_has_are_counted():
    assert read("more").task.outputs == 4


def test_samplers_that_pass_over_all_rows_give_all():
    data = read("whole")
    assert [len(part.y) for part in data.parts] == [12, 5, 12]


@pytest.mark.parametrize("module", ["pictures", "Sampled", "divided"])
def test_reading_draws_nothing_that_training_would_draw(module):
    # Of Python's own generator the checks of types draw, too.
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()
    read(module)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]


@pytest.mark.parametrize(
    ("module", "overrides", "sentence"),
    [
        (
            "nothing",
            [],
            "data.module=own_data:nothing returns NoneType, and not a LightningDataModule with DataLoaders",
        ),
        ("texts", [], "data.module=own_data:texts returns tuple, and not a LightningDataModule"),
        ("strings", [], "data.module=own_data:strings: samples have to be pairs (x, y) of tensors of one shape: "),
        (
            "shapes",
            [],
            "data.module=own_data:shapes: test samples are (1,) of torch.float32, and training samples (2,) ",
        ),
        (
            "kinds",
            [],
            "data.module=own_data:kinds: test labels are (1,) of torch.float32, and training labels () of ",
        ),
        (
            "bytes_and_floats",
            [],
            "data.module=own_data:bytes_and_floats: validation samples are (2,) of torch.float32, and training ",
        ),
        (
            "negative_test",
            [],
            "data.module=own_data:negative_test: labels (4,) are neither classes from 0 on nor floats.",
        ),
        ("more", ["data.classes=3"], "data.classes=3 is too few: data.module=own_data:more has labels up to 3."),
        ("negative", [], "data.module=own_data:negative: labels (4,) are neither classes from 0 on nor floats."),
        *(
            (
                name,
                [],
                f"data.module=own_data:{name}: {kind} draws rows as it goes, and here data.shuffle_seed deals "
                f"them out: return Datasets, of the rows of each part.",
            )
            for name, kind in (("weighted", "WeightedRandomSampler"), ("endless", "Endless"), ("batches", "Batches"))
        ),
        (
            "pictures",
            ["data.classes=2"],
            "data.classes=2 is too few: data.module=own_data:pictures has labels up to 2.",
        ),
        (
            "three",
            ["data.augment=flip"],
            "data.augment=flip is for pictures, and samples are (5,): use data.augment=none.",
        ),
    ],
)
def test_what_is_no_data_is_said(module, overrides, sentence):
    told = refusal(lambda: made(module, *overrides))
    assert told.startswith(sentence)
    assert "\n" not in told
