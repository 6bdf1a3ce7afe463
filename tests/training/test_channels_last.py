"""channels_last=true: the same training, but for rounding, and images lie pixel by pixel all the way."""

import csv

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import composing
from compiled import pass_over
from composing import network
from costate.core.block import Block
from costate.runs import RunFolder
from running import QUIET, command, fit
from small import ARCHS, PRODUCTS, STABLE

SHAPE = (3, 8, 8)


def blocks(words: str, last: bool) -> list[Block]:
    torch.manual_seed(0)
    node = ARCHS[words.split()[0].removeprefix("arch=")]
    small = [f"arch.{name}={n}" for name, n in (("depth", 4), ("width", 8)) if name in node]
    parts = network(SHAPE, 10, *words.split(), *small).double().cut(2)
    for part in parts:
        part.channels_last = last
    return parts


@pytest.mark.parametrize("words", PRODUCTS)
def test_networks_are_the_plain_ones(words):
    x = torch.randn(5, *SHAPE, dtype=torch.float64)
    plain, laid = (pass_over(blocks(words, last), x) for last in (False, True))
    # A bias in front of a batch norm has no gradient but rounding.
    errors = [float((a - b).norm() / a.norm().clamp_min(1e-3)) for a, b in zip(plain, laid, strict=True)]
    assert max(errors) < 1e-8


CHAINS = ("cnn", "resnet18", "resnet32", "revnet18", "vgg8b")
PICTURES = [f"arch={a} arch/form=conv" for a in STABLE] + [" ".join(composing.words("arch", a)) for a in CHAINS]


@pytest.mark.parametrize("words", PICTURES)
def test_every_convolution_reads_pixel_by_pixel(words, monkeypatch):
    """And no layer, nor any boundary, lays them differently: that would be done again and again."""
    parts, convolve = blocks(words, last=True), F.conv2d
    seen: list[bool] = []

    def watched(x: Tensor, *rest, **named) -> Tensor:
        seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return convolve(x, *rest, **named)

    monkeypatch.setattr(F, "conv2d", watched)
    h = torch.randn(5, *SHAPE, dtype=torch.float64)
    for block in parts:
        h = block(h)
    assert len(seen) >= 2
    assert all(seen)


RUN = ("data=digits", "arch=verlet", "arch/form=conv", "arch.width=4", "arch.depth=4", "arch.norm=true", "epochs=1")


@pytest.mark.parametrize("method", ["backprop", "coarse", "sg", "petra", "greedy"])
def test_a_run_is_the_plain_one_but_for_rounding(method, tmp_path):
    losses = []
    for words in (), ("channels_last=true",):
        path = tmp_path / ("laid" if words else "plain")
        fit(path, *RUN, *QUIET, "data.train=96", "data.batch_size=16", f"method={method}", *words)
        with RunFolder(path).metrics.open() as file:
            rows = list(csv.DictReader(file))
        losses.append([float(row[name]) for row in rows for name in ("train/loss", "val/loss") if row[name]])
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    assert losses[1] != losses[0]


@pytest.mark.parametrize("method", ["coarse", "sg"])
def test_a_pipeline_ends_with_the_tensors_of_one_process(method, tmp_path):
    """Though what arrives from another process lies in the plain order, and how numbers lie decides last bits."""
    words = (*RUN, *QUIET, "data.train=96", f"method={method}", "execution.lag=1", "channels_last=true")
    fit(tmp_path / "one", *words)
    done = command(*words, "execution=pipeline", f"hydra.run.dir={tmp_path / 'two'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, two = ((tmp_path / name / "network.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
