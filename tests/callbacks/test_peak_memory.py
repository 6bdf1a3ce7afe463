"""What is held for the backward pass, counted to the byte, for every method; of reversible networks it is little."""

import pytest
import torch
from torch import nn

from composing import network, options
from costate.callbacks.gradients import GradientCosine
from costate.callbacks.peak_memory import Held, PeakMemory
from costate.callbacks.probes import StabilityProbe
from costate.core.measures import amplification
from small import REBUILT


def held(net: nn.Module, x: torch.Tensor) -> Held:
    """A step of a network, watched."""
    watched = Held()
    watched.leave_out(net)
    with torch.autograd.graph.saved_tensors_hooks(watched.pack, watched.unpack):
        net(x).square().sum().backward()
    return watched


def test_bytes_are_those_of_the_saved_tensors():
    """Of two dense layers with tanh between: samples, what tanh gives, and the output, which is squared; no weights."""
    net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    watched = held(net, torch.randn(11, 5, dtype=torch.float64))
    assert watched.peak == 8 * 11 * (5 + 7 + 3)
    assert watched.bytes == 0, "all of it has been used"
    assert watched.saved == {}


def test_what_is_kept_elsewhere_counts_once():
    watched, x = Held(), torch.randn(4)
    other = torch.randn(6)
    watched.others = lambda: (x, other, other)
    with torch.autograd.graph.saved_tensors_hooks(watched.pack, watched.unpack):
        x.requires_grad_().square().sum().backward()
    assert watched.peak == x.nbytes + other.nbytes


@pytest.mark.parametrize(("product", "norm"), [*((product, "false") for product in REBUILT), (REBUILT[-1], "true")])
def test_a_reversible_network_holds_as_much_at_any_depth(product, norm):
    peaks = {}
    for reversible in ("true", "false"):
        for depth in (8, 32):
            words = *product.split(), f"arch.norm={norm}", f"arch.depth={depth}"
            net = network((1, 8, 8), 3, *words, f"arch.reversible={reversible}", "arch.width=8")
            peaks[reversible, depth] = held(net, torch.randn(16, 1, 8, 8)).peak
    assert peaks["true", 32] <= 1.05 * peaks["true", 8]
    assert peaks["false", 32] > 2 * peaks["false", 8]
    assert peaks["true", 8] < peaks["false", 8]


@pytest.mark.parametrize("method", options("method"))
def test_every_method_has_a_peak(fit, method):
    peak = fit(f"method={method}", callbacks=[PeakMemory(every=2)], epochs=1).means["peak_bytes"]
    # Of batches of 16 samples in 6 layers of width 8.
    assert 16 * 8 * 4 < peak < 100_000


def test_stages_that_wait_hold_more(fit):
    """Decoupled stages are updated one by one; locked ones hold their states until the gradient has come."""
    waiting, alone = (
        fit(f"method={method}", callbacks=[PeakMemory(every=2)], epochs=1).means["peak_bytes"]
        for method in ("backprop", "none")
    )
    assert waiting > 1.5 * alone


@pytest.mark.parametrize("other", [GradientCosine(every=1), StabilityProbe(every=1, samples=8, rounds=3)])
def test_what_others_measure_is_none_of_the_training_s_memory(fit, other):
    """The passes of backpropagation and of the power iteration were counted, and were more than a decoupled stage's."""
    with_it, alone = (
        fit("method=none", callbacks=[*others, PeakMemory(every=1)], epochs=1).means["peak_bytes"]
        for others in ([other], [])
    )
    assert with_it == alone


def test_the_power_iteration_leaves_no_graph_behind():
    """That of its pass in forward mode held itself under hooks: it grew with every measurement, and when a level began
    the next backward pass ran into the old one's layers.
    """
    (net,), watched = network((4,), 3, "arch=verlet", "arch.depth=4", "arch.width=4").cut(1), Held()
    with torch.autograd.graph.saved_tensors_hooks(watched.pack, watched.unpack):
        amplification(lambda h: net.propagate(h)[-1], torch.randn(5, 8))
    assert watched.saved == {}


def test_measuring_ends_with_the_batch(fit):
    measurement = PeakMemory(every=2)
    run = fit("method=backprop", callbacks=[measurement], epochs=1)
    assert measurement.held.peak == 0, "nothing since the last batch, in spite of a validation"
    run.module(torch.randn(3, 4)).sum().backward()
    assert measurement.held.peak == 0
