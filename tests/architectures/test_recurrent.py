"""Layers of a recurrent network, which is cut between any two of them."""

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from costate.training.balance import by_work
from small import NODES, RECURRENT
from unrolling import CLASSES, FEATURES, STEPS, TASKS, batch, blocks, made, rules


@pytest.mark.parametrize(("arch", "module"), [("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN)])
def test_layers_begin_as_torchs_own_and_give_what_they_give(arch, module):
    (block,) = blocks(arch, CLASSES, layers=3)
    torch.manual_seed(0)
    width = block.chain[0].cell.width
    theirs, readout = module(FEATURES, width, 3, batch_first=True), nn.Linear(width, CLASSES)
    if arch == "lstm":
        # Their forget gates begin with a bias of their own.
        for j, layer in enumerate(block.chain):
            for name in ("bias_ih_l", "bias_hh_l"):
                getattr(theirs, f"{name}{j}").data.copy_(getattr(layer.cell.layers, f"{name}0"))
    x = batch()[0].float()
    torch.testing.assert_close(block(x), readout(theirs(x)[0]))


@pytest.mark.parametrize("arch", RECURRENT)
def test_stages_are_the_network(arch):
    (whole,), x = blocks(arch, CLASSES, layers=3), batch()[0].float()
    for stages in (2, 3):
        h = x
        for block in blocks(arch, CLASSES, layers=3, stages=stages):
            h = block(h)
        assert torch.equal(h, whole(x))


def test_a_network_of_one_layer_has_the_names_of_earlier_checkpoints():
    names = {name for name, _ in made("sg").stages[0].named_parameters()}
    cell = {f"block.chain.0.cell.layers.{kind}_{way}_l0" for kind in ("weight", "bias") for way in ("ih", "hh")}
    readout = {f"block.chain.0.readout.{kind}" for kind in ("weight", "bias")}
    assert names == cell | readout | {f"interface.between.synthesizer.layer.{kind}" for kind in ("weight", "bias")}


def test_what_cannot_be_cut_says_so():
    with pytest.raises(ValueError, match=r"execution.later=0.5 .* choose stages=1"):
        made("sg", later=0.5, layers=2, stages=2)
    with pytest.raises(ValueError, match=r"stages=3 is more than the 2 layers .* raise arch.layers"):
        blocks("antisymmetric_rnn", CLASSES, layers=2, stages=3)
    network = instantiate(NODES["gru"], (STEPS, FEATURES), CLASSES, layers=2)
    with pytest.raises(ValueError, match="balance=work"):
        by_work(network, rules()["sg"], 2, (STEPS, FEATURES), TASKS["symbols"])
