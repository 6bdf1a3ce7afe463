"""Sequences that are drawn, or streams of a text; a new file of conf/data that is not in memory is picked up."""

import copy
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from costate.core.tasks import SILENT, Characters, SequenceTask
from costate.data.memory import InMemory
from costate.data.sequences import RepeatCopy
from costate.data.text import _library

CONF = Path(__file__).parents[2] / "conf" / "data"
NODES = {path.stem: OmegaConf.merge({"seed": 0}, OmegaConf.load(path)) for path in sorted(CONF.glob("*.yaml"))}
NAMES = [name for name, node in NODES.items() if not issubclass(get_class(node.data._target_), InMemory)]
SMALL = {"batches": 3, "longest": 5, "length": 4, "batch_size": 12, "validation": 6, "size": 3000}


def made(name, **changes):
    node = NODES[name].data
    small = {key: value for key, value in {**SMALL, **changes}.items() if key in node}
    return instantiate(OmegaConf.merge(NODES[name], {"data": small}).data)


def passed(loader, epoch=0):
    loader.set_epoch(epoch)
    return list(loader)


def same(a, b):
    return len(a) == len(b) > 0 and all(
        torch.equal(u, v) for p, q in zip(a, b, strict=True) for u, v in zip(p, q, strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_batches_are_sequences_with_a_class_at_each_step(name):
    data = made(name)
    assert isinstance(data.task, SequenceTask)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        batches = passed(loader)
        assert len(batches) == len(loader)
        for x, y in batches:
            assert (x.dtype, x.ndim, x.shape[2]) == (torch.float32, 3, data.shape[1])
            assert y.shape == x.shape[:2]
            assert y.max() < data.task.outputs
            output = torch.zeros(*y.shape, data.task.outputs)
            counted = (y != SILENT).sum() / len(y)
            torch.testing.assert_close(data.task.loss(output, y), counted * math.log(data.task.outputs))
            torch.testing.assert_close(data.task.losses(output, y).mean(), data.task.loss(output, y))


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_can_be_taken_up_behind_any_batch_and_ranks_share_out_the_rows(name):
    whole = passed(made(name).train_dataloader(), 2)
    for done in range(len(whole)):
        resumed = made(name).train_dataloader()
        resumed.load_state_dict({"epoch": 2, "batch": done})
        assert same(whole[done:], passed(resumed, 2))
    for rank in range(2):
        data = made(name)
        data.trainer = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": 2, "rank": rank})
        assert same([(x[rank::2], y[rank::2]) for x, y in whole], passed(data.train_dataloader(), 2))
    data.trainer.distributed_sampler_kwargs["num_replicas"] = 5
    with pytest.raises(ValueError, match="cannot be shared out evenly among 5"):
        data.train_dataloader()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"text"}))
def test_no_batch_is_drawn_twice_and_validation_always_the_same(name):
    data = made(name)
    first, other = (passed(data.train_dataloader(), epoch) for epoch in (0, 1))
    assert len({bytes(x.numpy()) for x, _ in first + other}) == 2 * SMALL["batches"]
    assert same(passed(data.val_dataloader(), 0), passed(made(name).val_dataloader(), 3))
    assert not same(passed(data.val_dataloader()), passed(data.test_dataloader()))
    assert [x.shape[1] for x, _ in passed(data.val_dataloader())] == [data.steps(n) for n in range(1, 6)]
    data.length = 2
    assert passed(data.train_dataloader())[0][0].shape[1] == data.steps(2)
    resumed = made(name)
    resumed.load_state_dict(data.state_dict())
    assert resumed.length == 2


@pytest.mark.parametrize(("name", "length"), [("copy", 3), ("repeat_copy", 1), ("repeat_copy", 4)])
def test_what_is_asked_for_is_what_was_shown(name, length):
    data = made(name, symbols=3, length=length)
    x, y = passed(data.train_dataloader())[0]
    N, R = (length, 1) if name == "copy" else RepeatCopy.turns(length)
    shown = x[:, :N, :3].argmax(2)
    assert torch.equal(y[:, N + 1 :], shown.repeat(1, R))
    assert (y[:, : N + 1] == SILENT).all()
    assert x[:, N, 3].eq(1 if name == "copy" else R / 10).all(), "the mark"
    assert x.count_nonzero() == len(x) * (N + 1)
    assert shown.unique().numel() == 3


def test_lengths_of_repeat_copy_grow_symbols_and_repeats_in_turn():
    assert [RepeatCopy.turns(length) for length in range(1, 6)] == [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3)]


def test_streams_of_a_text_go_on_from_batch_to_batch(tmp_path):
    written = "".join(chr(97 + i % 23) for i in range(1760)) + "Z" * 220 + "a" * 220
    path = tmp_path / "text.txt"
    path.write_text(written)
    data = made("text", file=str(path), size=10_000, held=0.1, batch_size=4, length=7)
    batches = passed(data.train_dataloader())
    for (x, y), (further, _) in pairwise(batches):
        assert torch.equal(x[:, 1:].argmax(2), y[:, :-1])
        assert torch.equal(y[:, -1], further[:, 0].argmax(1))
    streams = torch.cat([x.argmax(2) for x, _ in batches], dim=1)
    told = "".join(data.known[i] for i in streams[0])
    assert written.startswith(told)
    assert len(told) >= 1760 // 4 - 8
    assert len(data.known) == 23
    held = passed(data.test_dataloader())[0][1]
    assert set(held.flatten().tolist()) == {data.known.index("a")}
    assert 23 in passed(data.val_dataloader())[0][1], "Z is new"


def test_the_default_text_is_the_same_for_everybody_with_this_python():
    assert _library(5000) == _library(5000)[:5000]
    assert len(_library(300_000)) == 300_000
    assert _library(2000).startswith(_library(1000))


def test_impossible_settings_are_said(tmp_path):
    with pytest.raises(Exception, match=r"data\.length=6 is more than data\.longest=5"):
        made("copy", length=6)
    with pytest.raises(Exception, match="cannot be read"):
        made("text", file=str(tmp_path / "nowhere"))
    with pytest.raises(Exception, match="too short for"):
        made("text", size=300)
    with pytest.raises(Exception, match=r"data\.held=0\.6"):
        made("text", held=0.6)


def test_bits_are_the_mean_of_all_characters_of_all_batches():
    task, random = Characters(4), torch.Generator().manual_seed(0)
    metric, output = task.metric(), torch.randn(6, 5, 4, generator=random)
    y = torch.randint(4, (6, 5), generator=random)
    y[0, :3] = SILENT
    for rows in (slice(0, 1), slice(1, 6)):
        metric.update(output[rows], y[rows])
    p = output.softmax(2)[y != SILENT][torch.arange(27), y[y != SILENT]]
    torch.testing.assert_close(metric.compute(), -p.log2().mean())
    readings = copy.copy(task).readings(metric.compute())
    torch.testing.assert_close(readings["perplexity"], 1 / p.log().mean().exp())
