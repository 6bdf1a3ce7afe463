"""Stages and spans together: what comes out is backpropagation, or what the cuts in both directions say."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from costate.core.stage import Graph, Stage
from costate.core.tasks import Characters
from costate.execution.serial import Serial
from costate.methods.synthetic_gradients import Synthesizer
from small import RECURRENT
from unrolling import (
    BATCH,
    CLASSES,
    SPAN,
    STEPS,
    TASKS,
    assert_same,
    batch,
    bodies,
    context,
    gradients,
    interfaces,
    made,
    played,
    rules,
    streams,
    taught,
)

CUTS = [(2, 2), (3, 2), (3, 3)]
"""Layers and stages."""


def copied(execution):
    clone = copy.deepcopy(bodies(execution))
    clone.zero_grad()
    return clone


def backpropagated(execution, x, y):
    """The blocks one after the other on the whole sequence: nothing of spans or interfaces."""
    clone, h = copied(execution), x
    for block in clone:
        h = block(h)
    execution.task.loss(h, y).backward()
    return gradients(clone)


def cells(execution, blocks, x):
    """(stage, span, x, h, s) of each stage on each span; x and s are nodes of their own, with all before them."""
    states = [[layer.start(x) for layer in block.chain] for block in blocks]
    for k, steps in enumerate(x.split(execution.span, dim=1)):
        h = steps
        for j, block in enumerate(blocks):
            into, s = h.clone(), torch.cat(states[j], dim=1).clone()
            parts = s.split([layer.cell.size for layer in block.chain], dim=1)
            h, states[j] = into, []
            for layer, own in zip(block.chain, parts, strict=True):
                h, end = layer.unroll(h, own)
                states[j].append(end)
            yield j, k, into, h, s


def answers(execution, j, k, h, end, y):
    """Σ ⟨h, ĝ⟩ + ⟨end, ĝ⟩ as the interfaces of a stage say, by hand."""
    interface, last = execution.stages[j].interface, j + 1 == len(execution.stages)
    total, stop = torch.zeros((), dtype=torch.float64), min((k + 1) * execution.span, STEPS)
    with torch.no_grad():
        ĝ = interface.at(k + 1).synthesizer(end, context(y, stop)) / BATCH if stop < STEPS else None
        below = [] if last else [context(y, t) for t in range(k * execution.span, stop)]
        f̂ = [interface.behind.synthesizer(h[:, i], c) / BATCH for i, c in enumerate(below)]
    if stop < STEPS:
        total = total + (end * ĝ).sum()
    return total if last else total + (h * torch.stack(f̂, dim=1)).sum()


def loss(execution, k, h, y):
    """Of a span, at the last stage."""
    if y.dim() == 2:
        return execution.task.loss(h, y[:, k * execution.span : (k + 1) * execution.span])
    return execution.task.loss(h, y) * ((k + 1) * execution.span >= STEPS)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("layers", "stages"), CUTS)
@pytest.mark.parametrize("arch", RECURRENT)
def test_exact_interfaces_are_backpropagation_through_depth_and_time(arch, layers, stages, task):
    execution = made("backprop", arch, TASKS[task], layers=layers, stages=stages)
    x, y = batch(TASKS[task])
    output = played(execution, x, y)
    assert_same(gradients(bodies(execution)), backpropagated(execution, x, y))
    h = x
    for stage in execution.stages:
        h = stage(h)
    torch.testing.assert_close(output, h)
    torch.testing.assert_close(execution.loss.value, execution.task.loss(output, y))


@pytest.mark.parametrize("rule", ["none", "sg"])
@pytest.mark.parametrize(("layers", "stages"), CUTS)
@pytest.mark.parametrize("arch", RECURRENT)
def test_silence_and_an_untrained_synthesizer_are_the_losses_cut_in_both_directions(arch, layers, stages, rule):
    execution = made(rule, arch, layers=layers, stages=stages)
    x, y = batch()
    played(execution, x, y)
    clone, total, states = copied(execution), 0.0, {}
    for k, steps in enumerate(x.split(SPAN, dim=1)):
        h = steps
        for j, block in enumerate(clone):
            h = h.detach()
            for i, layer in enumerate(block.chain):
                s = states[j, i].detach() if k else layer.start(x)
                h, states[j, i] = layer.unroll(h, s)
        total = total + loss(execution, k, h, y)
    total.backward()
    assert_same(gradients(bodies(execution)), gradients(clone))
    assert all(p.grad is None for p in clone[0].parameters()), "nothing comes down"


class Oracle(Synthesizer):
    """Knows the true gradient of each row, on the scale of each sample's own loss."""

    def __init__(self, rows, g):
        super().__init__()
        self.weight, self.rows, self.g = nn.Parameter(torch.zeros((), dtype=torch.float64)), rows, g * BATCH

    def forward(self, h, c):
        distances = torch.cdist(h, self.rows, compute_mode="donot_use_mm_for_euclid_dist")
        assert distances.min(dim=1).values.max() < 1e-12
        return self.g[distances.argmin(dim=1)] + self.weight


def all_knowing(execution, x, y):
    found = list(cells(execution, copied(execution), x))
    h = torch.cat([h for j, _, _, h, _ in found if j + 1 == len(execution.stages)], dim=1)
    for j, interface in enumerate(interfaces(execution)):
        states = [s for i, k, _, _, s in found if i == j and k]
        inputs = [into for i, _, into, _, _ in found if i == j + 1]
        g = torch.autograd.grad(execution.task.loss(h, y), states + inputs, retain_graph=True)
        for k, (s, own) in enumerate(zip(states, g, strict=False)):
            known = (s, own) if interface.others else (torch.cat(states), torch.cat(g[: len(states)]))
            interface.at(k + 1).synthesizer = Oracle(*(each.detach() for each in known))
        if inputs:
            rows, f = (torch.cat(each, dim=1).flatten(0, 1).detach() for each in (inputs, g[len(states) :]))
            interface.behind.synthesizer = Oracle(rows, f)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("layers", "stages"), CUTS)
def test_synthesizers_that_know_are_backpropagation_through_depth_and_time(layers, stages, task):
    execution = made("sg", task=TASKS[task], layers=layers, stages=stages)
    x, y = batch(TASKS[task])
    all_knowing(execution, x, y)
    played(execution, x, y)
    assert_same(gradients(bodies(execution)), backpropagated(execution, x, y))
    weights = [p for interface in interfaces(execution) for p in interface.parameters()]
    assert len(weights) == stages * (2 if task == "at the end" else 1) + stages - 1
    assert all(p.grad.abs() < 1e-12 for p in weights), "they have nothing to learn"


@pytest.mark.parametrize("rule", ["sg", "backprop", "none"])
def test_one_stage_on_one_span_is_backpropagation_through_time(rule):
    execution = made(rule, span=STEPS, layers=2)
    x, y = batch()
    played(execution, x, y)
    assert_same(gradients(bodies(execution)), backpropagated(execution, x, y))


@pytest.mark.parametrize("rule", ["backprop", "none"])
def test_stages_on_one_span_are_those_of_a_network_that_is_cut_in_depth_alone(rule):
    execution = made(rule, span=STEPS, layers=3, stages=3)
    x, y = batch()
    played(execution, x, y)
    parts = [Stage(block, rules()[rule].interface((), execution.task, []), (), Graph()) for block in copied(execution)]
    parts[-1].interface = execution.loss
    Serial(parts, rules()[rule], lag=0).step(0, x, y)
    assert_same(gradients(bodies(execution)), gradients(nn.ModuleList(part.block for part in parts)))


def test_synthesizers_between_stages_on_one_span_are_told_each_step_and_learn_what_comes_from_above():
    execution = taught(made("sg", span=STEPS, layers=3, stages=3))
    x, y = batch()
    played(execution, x, y)
    clone, h, below = copied(execution), x, None
    told = torch.stack([context(y, t) for t in range(STEPS)], dim=1)
    for block, interface in zip(clone, interfaces(execution), strict=True):
        into = h.detach().requires_grad_()
        h = block(into)
        if block is clone[-1]:
            objective = execution.task.loss(h, y)
        else:
            g = interface.behind.synthesizer(h.detach().flatten(0, 1), told.flatten(0, 1)).detach()
            objective = (h * g.view_as(h)).sum() / BATCH
        objective.backward()
        if below is not None:
            torch.testing.assert_close(below.behind.last[1], into.grad.flatten(0, 1) * BATCH)
        below = interface
    assert_same(gradients(bodies(execution)), gradients(clone))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_gradients_of_the_network_have_no_trace_of_the_fits(task, share):
    """They are those of Σ ℓ_k + ⟨h_k, ĝ⟩ + ⟨s_{k+1}, ĝ⟩ over all stages and spans, with every state cut off."""
    execution = taught(made("sg", task=TASKS[task], layers=2, stages=2))
    for interface in interfaces(execution):
        for each in (interface.behind, interface.between, *interface.others, execution.method):
            each.mixed = lambda n: share
    x, y = batch(TASKS[task])
    played(execution, x, y)
    assert all(p.grad.abs().max() > 1e-6 for each in interfaces(execution) for p in each.parameters()), "they learn"
    if share == 1:
        return assert_same(gradients(bodies(execution)), backpropagated(execution, x, y))
    clone, total = copied(execution), 0.0
    with torch.no_grad():
        known = list(cells(execution, clone, x))
    for j, k, into, _, s in known:
        h, end = clone[j].chain[0].unroll(into, s)
        total = total + answers(execution, j, k, h, end, y)
        if j == 1:
            total = total + loss(execution, k, h, y)
    total.backward()
    return assert_same(gradients(bodies(execution)), gradients(clone))


@pytest.mark.parametrize("task", TASKS)
def test_each_interface_learns_what_comes_out_behind_it_in_one_regression(task):
    execution = taught(made("sg", task=TASKS[task], layers=2, stages=2))
    x, y = batch(TASKS[task])
    played(execution, x, y)
    clone = copied(execution)
    with torch.no_grad():
        known = list(cells(execution, clone, x))
    times, depths, steps, inputs = ([], []), [], [], []
    for j, k, into, _, s in known:
        into, s = into.clone().requires_grad_(), s.clone().requires_grad_()
        h, end = clone[j].chain[0].unroll(into, s)
        objective = answers(execution, j, k, h, end, y) + (loss(execution, k, h, y) if j == 1 else 0)
        r, q = torch.autograd.grad(objective, (s, into))
        if k:
            times[j].append((s, context(y, k * SPAN), r * BATCH))
        if j == 1:
            depths.append(q * BATCH)
            inputs.append(into)
            steps += [context(y, t) for t in range(k * SPAN, k * SPAN + into.shape[1])]
    for found, interface in zip(times, interfaces(execution), strict=True):
        if interface.others:
            for k, boundary in enumerate(found):
                assert_fitted(interface.at(k + 1), *boundary)
        else:
            assert_fitted(interface.between, *(torch.cat(each) for each in zip(*found[::-1], strict=True)))
    rows = [torch.cat(each, dim=1).flatten(0, 1) for each in (inputs, depths)]
    assert_fitted(interfaces(execution)[0].behind, rows[0], torch.stack(steps, dim=1).flatten(0, 1), rows[1])


def assert_fitted(interface, states, told, targets):
    torch.testing.assert_close(interface.last[1], targets)
    clone = copy.deepcopy(interface.synthesizer)
    clone.zero_grad()
    (F.mse_loss(clone(states.detach(), told), targets, reduction="sum") / (2 * len(targets))).backward()
    assert_same(gradients(interface.synthesizer), gradients(clone))


def test_the_state_of_all_stages_is_carried_on():
    execution = made("sg", task=Characters(CLASSES), layers=3, stages=2)
    parts = streams(3)
    outputs = [played(execution, x, y, n, ahead=2 - n) for n, (x, y) in enumerate(parts)]
    h = torch.cat([x for x, _ in parts], dim=1)
    for stage in execution.stages:
        h = stage(h)
    torch.testing.assert_close(torch.cat(outputs, dim=1), h)
    torch.testing.assert_close(execution.through(list(bodies(execution)), parts[2][0]), outputs[2])
    torch.testing.assert_close(played(execution, *parts[0], n=3, ahead=1), h[:, :6])


def test_a_resumed_run_is_an_uninterrupted_one_with_the_states_of_its_stages():
    def new():
        execution = made("sg", task=Characters(CLASSES), span=3, layers=2, stages=2)
        parts = nn.ModuleList(execution.stages)
        return execution, parts, torch.optim.Adam(parts.parameters(), lr=0.01)

    def run(pause):
        execution, parts, optimizer = new()
        for n, (x, y) in enumerate(streams(5)):
            if n == pause:
                kept = copy.deepcopy((parts.state_dict(), optimizer.state_dict(), execution.state_dict()))
                execution, parts, optimizer = new()
                parts.load_state_dict(kept[0])
                optimizer.load_state_dict(kept[1])
                execution.load_state_dict(kept[2], torch.device("cpu"))
            played(execution, x, y, n, ahead=4 - n)
            optimizer.step()
        return parts.state_dict()

    whole, resumed = run(None), run(3)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
