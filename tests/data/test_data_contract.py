"""What every data set of conf/data keeps to; a new file there is picked up by itself."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import get_class, instantiate
from lightning.pytorch import LightningDataModule
from omegaconf import OmegaConf

from costate.core.tasks import AtEnd, Classification, Task
from costate.data.memory import InMemory
from own_data import ROWS

CONF = Path(__file__).parents[2] / "conf" / "data"
NAMES = sorted(
    path.stem for path in CONF.glob("*.yaml") if issubclass(get_class(OmegaConf.load(path).data._target_), InMemory)
)
"""Those held in memory; the others are in test_sequences.py."""
SMALL = {"train": 60, "validation": 20, "test": 10, "batch_size": 12}


def config(name, root=None, seed=0):
    """The file's settings as a run would see them, cut down to what small files hold."""
    cfg = OmegaConf.merge({"seed": seed}, OmegaConf.load(CONF / f"{name}.yaml"))
    small = {key: value for key, value in SMALL.items() if key in cfg.data}
    # A part of the rows, or how many.
    small = {k: v / ROWS if isinstance(cfg.data[k], float) else v for k, v in small.items()}
    place = f"{root}/pictures" if brought(name) else str(root)
    files = {"root": place, "cache": str(root), "download": False, "module": "own_data:pictures"}
    return OmegaConf.merge(cfg, {"data": {**small, **{k: v for k, v in files.items() if k in cfg.data}}})


def brought(name):
    """Whether the data is the user's own, who says where it is."""
    cfg = OmegaConf.load(CONF / f"{name}.yaml")
    return any(key in cfg.data and cfg.data[key] is None for key in ("root", "module"))


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def made(name, image_files):
    def make(seed=0, **changes):
        data = instantiate(OmegaConf.merge(config(name, image_files[0], seed).data, changes))
        data.prepare_data()
        data.setup("fit")
        return data

    return make


def test_there_are_nine_sets_at_least():
    nine = {"mnist", "fashion_mnist", "cifar10", "cifar100", "digits", "ellipse", "swiss_roll", "peaks", "surface"}
    assert nine <= set(NAMES)


def test_the_file_lists_every_setting_and_a_number_of_epochs(name):
    text = (CONF / f"{name}.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    cfg = OmegaConf.load(CONF / f"{name}.yaml")
    assert set(cfg) == {"epochs", "data"}
    kind = get_class(cfg.data._target_)
    assert kind.__module__ == cfg.data._target_.rpartition(".")[0]
    parameters = [p for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert set(cfg.data) == {"_target_", *(p.name for p in parameters)}
    assert all(p.default is p.empty for p in parameters)
    assert {"batch_size", "seed", "shuffle_seed"} <= set(cfg.data)


def test_the_run_seeds_the_order_and_not_the_rows(name):
    assert config(name, seed=17).data.shuffle_seed == 17
    assert config(name, seed=17).data.seed == config(name, seed=0).data.seed


def test_shape_and_task_are_known_before_anything_is_read(name, tmp_path, image_files):
    data = instantiate(config(name, image_files[0] if brought(name) else tmp_path / "nowhere").data)
    assert isinstance(data, LightningDataModule)
    assert isinstance(data.task, Task)
    assert data.shape
    assert all(isinstance(length, int) for length in data.shape)


def test_batches_are_floats_and_labels_of_the_task(made):
    data = made()
    task, steps = (data.task.task, data.shape[:1]) if isinstance(data.task, AtEnd) else (data.task, ())
    loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    for loader in loaders:
        assert len(list(loader)) == len(loader)
        for x, y in loader:
            assert x.dtype == torch.float32
            assert x.shape == (len(y), *data.shape)
            if isinstance(task, Classification):
                assert y.dtype == torch.long
                assert y.ndim == 1
                assert 0 <= y.min() <= y.max() < data.task.outputs
            else:
                assert y.dtype == torch.float32
                assert y.shape == (len(x), data.task.outputs)
            data.task.loss(torch.zeros(len(y), *steps, data.task.outputs), y)
    assert {len(y) for _, y in loaders[0]} == {data.batch_size}
    assert sum(len(y) for _, y in loaders[1]) == SMALL["validation"]


def test_parts_are_disjoint(made):
    parts = [{bytes(x.numpy()) for x in part.x} for part in made().parts]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


def pass_over(loader, epoch=0):
    loader.set_epoch(epoch)
    return torch.cat([x for x, _ in loader])


def test_the_same_settings_give_the_same_batches_and_another_seed_another_order(made):
    first, second, other = made(), made(), made(seed=1)
    for epoch in range(2):
        assert torch.equal(pass_over(first.train_dataloader(), epoch), pass_over(second.train_dataloader(), epoch))
        assert not torch.equal(pass_over(first.train_dataloader(), epoch), pass_over(other.train_dataloader(), epoch))
    for a, b in zip(first.parts, other.parts, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)


@pytest.mark.parametrize("replicas", [2, 3])
def test_ranks_share_out_the_batches_of_one_process(made, replicas):
    alone = made()
    shares = []
    for rank in range(replicas):
        data = made()
        data.trainer = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": replicas, "rank": rank})
        shares.append(data)
    for i, (x, y) in enumerate(alone.train_dataloader()):
        for rank, data in enumerate(shares):
            own, labels = list(data.train_dataloader())[i]
            assert torch.equal(own, x[rank::replicas])
            assert torch.equal(labels, y[rank::replicas])
    whole = {bytes(x.numpy()) for x in pass_over(alone.test_dataloader())}
    parts = [{bytes(x.numpy()) for x in pass_over(data.test_dataloader())} for data in shares]
    assert set.union(*parts) == whole
    assert sum(map(len, parts)) == len(whole)


def test_a_trainer_without_ranks_counts_as_one_process(made):
    data = made()
    before = pass_over(data.train_dataloader())
    data.trainer = SimpleNamespace(distributed_sampler_kwargs=None)
    assert torch.equal(pass_over(data.train_dataloader()), before)


def test_an_impossible_batch_size_is_said_on_setup(name, image_files):
    data = instantiate(OmegaConf.merge(config(name, image_files[0]).data, {"batch_size": 61}))
    with pytest.raises(ValueError, match=r"data\.batch_size=61 is more than there are training rows"):
        data.setup("fit")
    data = instantiate(config(name, image_files[0]).data)
    data.trainer = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": 5, "rank": 0})
    with pytest.raises(ValueError, match=r"data\.batch_size=12 cannot be shared out evenly among 5 processes"):
        data.setup("fit")
