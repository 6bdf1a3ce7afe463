"""Coarse steps: between two spans the gradient is that of a copy which makes several of the steps to come at once."""

import copy
from itertools import pairwise

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from composing import method, refusal
from costate.architectures.recurrent import AntisymmetricCell
from costate.core.tasks import Characters
from costate.execution.unrolled import Unrolled
from costate.training.module import stages as make_stages
from small import NODES, RECURRENT
from unrolling import (
    BATCH,
    CLASSES,
    FEATURES,
    SPAN,
    STEPS,
    TASKS,
    assert_same,
    batch,
    blocks,
    gradients,
    played,
    streams,
)

FACTORS = (3, 4)


def made(factor, arch="antisymmetric_rnn", task=TASKS["symbols"], layers=1, stages=1, step=100.0):
    rule = method("method=coarse", f"method.factor={factor}", f"method.step={step}")
    parts = make_stages(blocks(arch, task.outputs, layers, stages), (STEPS, FEATURES), task, rule)
    return Unrolled([part.double() for part in parts], rule, span=SPAN, later=0.0)


def layers_of(execution):
    return copy.deepcopy(execution.networks[0])


def zero(network):
    for layer in network.layers:
        layer.zero_grad()


def found(network):
    return {f"chain.{j}.{name}": g for j, layer in enumerate(network.layers) for name, g in gradients(layer).items()}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("arch", RECURRENT)
def test_steps_one_by_one_are_backpropagation_through_time(arch, task):
    execution = made(1, arch, TASKS[task], layers=2)
    x, y = batch(TASKS[task])
    played(execution, x, y)
    network = layers_of(execution)
    zero(network)
    execution.task.loss(network.unroll(x, network.start(x))[0], y).backward()
    assert_same(gradients(execution.stages[0].block), found(network))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("factor", FACTORS)
def test_a_span_is_updated_under_the_gradient_of_the_coarse_loss_behind_it(factor, task):
    """Against autograd through a copy whose later steps are coarse, span by span."""
    execution, asks = made(factor, task=TASKS[task], layers=2), TASKS[task]
    x, y = batch(asks)
    played(execution, x, y)
    network = layers_of(execution)
    zero(network)
    s = network.start(x)
    for start in range(0, STEPS, SPAN):
        end = min(start + SPAN, STEPS)
        output, s = network.unroll(x[:, start:end], s.detach())
        own = asks.part(y, start, end, STEPS)
        loss = torch.zeros(()) if own is None else asks.loss(output, own)
        if end < STEPS:
            still = copy.deepcopy(network)
            later, _ = still.unroll(x[:, end:], s, factor)
            loss = loss + asks.loss(later, asks.part(y, end, STEPS, STEPS))
        loss.backward()
    assert_same(gradients(execution.stages[0].block), found(network))


def test_nothing_is_known_of_the_next_batch():
    """Where the state is carried on, the last span of a batch is updated under its own loss."""
    execution = made(1, task=Characters(CLASSES))
    for n, (x, y) in enumerate(streams(2)):
        carried = execution.carried
        played(execution, x, y, n, ahead=1)
    network = layers_of(execution)
    zero(network)
    execution.task.loss(network.unroll(x, carried)[0], y).backward()
    assert_same(gradients(execution.stages[0].block), found(network))


def cell_of(step, gain=0.5):
    torch.manual_seed(0)
    cell = AntisymmetricCell(FEATURES, 16, step, damping=0.01).double()
    cell.W.data *= gain
    return cell


def error(factor, steps):
    """Of the gradient at the beginning, over a fixed time, against that of the steps one by one, on random inputs."""
    cell, random = cell_of(2.0 / steps), torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, steps, FEATURES, generator=random, dtype=torch.float64)
    g = []
    for k in (1, factor):
        s = torch.linspace(-1, 1, BATCH * cell.size, dtype=torch.float64).view(BATCH, -1).requires_grad_()
        end = (cell(x, s) if k == 1 else cell.coarse(x, s, k))[1]
        g.append(torch.autograd.grad(F.mse_loss(end, torch.zeros_like(end)), s)[0])
    return float((g[1] - g[0]).norm() / g[0].norm())


@pytest.mark.parametrize("factor", [3, 4, 8])
def test_the_error_of_the_gradient_falls_with_the_square_of_the_step(factor):
    """Whatever the inputs. One Euler step of k times the length would fall with the step itself, and so do means of
    inputs, or of the states that steps set out from."""
    errors = [error(factor, steps) for steps in (240, 480, 960)]
    assert errors[0] < 0.01
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(4, rel=0.3)


def test_two_steps_at_once_are_the_two_steps():
    assert error(2, 40) < 1e-14


def test_a_state_that_turns_is_turned_as_far():
    """Steps of a network that has learnt are long: the longer Euler step blew states up, and no gradient was right."""
    cell, steps = cell_of(0.05, gain=1.0), 96
    x = torch.randn(BATCH, steps, FEATURES, dtype=torch.float64)
    s = torch.randn(BATCH, cell.size, dtype=torch.float64)
    fine, coarse = cell(x, s), cell.coarse(x, s, 4)
    for all_fine, all_coarse in zip(fine, coarse, strict=True):
        assert (all_coarse - all_fine).norm() < 0.01 * all_fine.norm()


def test_a_coarse_step_is_as_long_as_is_said_at_most():
    by_step = {step: made(8, step=step).stages[0].interface.between.factor for step in (0.05, 0.1, 0.3, 0.5, 2.0)}
    assert by_step == {0.05: 1, 0.1: 1, 0.3: 3, 0.5: 5, 2.0: 8}, "the network's own is 0.1"


def test_what_cannot_be_made_coarse_says_so():
    assert "solve no equation: choose arch=antisymmetric_rnn" in refusal(lambda: made(2, "lstm"))
    for arch in RECURRENT:
        network = instantiate(NODES[arch], (STEPS, FEATURES), CLASSES, layers=2)
        assert "choose stages=1, or method=sg" in refusal(
            lambda network=network: method("method=coarse").cut(network, 2)
        )
