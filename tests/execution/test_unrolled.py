"""Spans of steps: what comes out of them is backpropagation through time, or what its truncation says."""

import copy

import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torch.nn import functional as F

from composing import method, network, options, refusal, words
from costate.core.tasks import AtEnd, Characters, Classification, Regression
from costate.execution.serial import Serial
from costate.execution.unrolled import Unrolled
from costate.methods.synthetic_gradients import Synthesizer, Synthetic
from costate.training.module import stages as make_stages
from small import NODES, RECURRENT
from unrolling import (
    BATCH,
    CLASSES,
    FEATURES,
    RULES,
    SPAN,
    STEPS,
    TASKS,
    assert_same,
    batch,
    behind,
    blocks,
    gradients,
    made,
    played,
    rules,
    streams,
    taught,
)


def network_of(execution):
    return execution.stages[0].block.chain[0]


def between(execution):
    return execution.stages[0].interface.between


def autograd(execution, x, y, cut=None):
    """Gradients of the weights by autograd alone; with `cut` the state is detached every so many steps."""
    net, task = copy.deepcopy(network_of(execution)), execution.task
    net.zero_grad()
    s, outputs = net.start(x), []
    for t in range(0, x.shape[1], cut or x.shape[1]):
        output, s = net.unroll(x[:, t : t + (cut or x.shape[1])], s.detach() if cut else s)
        outputs.append(output)
    task.loss(torch.cat(outputs, dim=1), y).backward()
    return gradients(net)


class Oracle(Synthesizer):
    """Knows the true gradient of each state, on the scale of each sample's own loss."""

    def __init__(self, execution, x, y):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.known = true_gradients(execution, x, y)

    def forward(self, h, c):
        rows = [g[i] for row in h for s, g in self.known for i in range(len(s)) if torch.allclose(s[i], row)]
        return torch.stack(rows) * BATCH + self.weight


def true_gradients(execution, x, y):
    """(state, gradient of the batch's loss there) at each boundary."""
    net, task = network_of(execution), execution.task
    s, states, outputs = net.start(x), [], []
    for t in range(0, x.shape[1], execution.span):
        if t:
            s.retain_grad()
            states.append(s)
        output, s = net.unroll(x[:, t : t + execution.span], s)
        outputs.append(output)
    found = torch.autograd.grad(task.loss(torch.cat(outputs, dim=1), y), states)
    return [(s.detach(), g) for s, g in zip(states, found, strict=True)]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("arch", RECURRENT)
def test_exact_interfaces_are_backpropagation_through_time(arch, task):
    execution = made("backprop", arch, TASKS[task])
    x, y = batch(TASKS[task])
    output = played(execution, x, y)
    assert_same(gradients(network_of(execution)), autograd(execution, x, y))
    torch.testing.assert_close(output, network_of(execution)(x))
    torch.testing.assert_close(execution.loss.value, execution.task.loss(output, y))


@pytest.mark.parametrize("rule", ["none", "sg"])
@pytest.mark.parametrize("arch", RECURRENT)
def test_silence_and_an_untrained_synthesizer_are_truncated_backpropagation(arch, rule):
    execution = made(rule, arch)
    x, y = batch()
    played(execution, x, y)
    assert_same(gradients(network_of(execution)), autograd(execution, x, y, cut=SPAN))


def test_where_all_sequences_have_one_length_each_boundary_has_a_synthesizer_of_its_own():
    """What lies behind a boundary is always as many steps: one linear map for all of them would be their mean."""
    one, each = (made("sg", task=TASKS[name]).stages[0].interface for name in ("symbols", "at the end"))
    assert one.at(1) is one.at(2) is one.between
    assert each.at(1) is each.between
    assert each.at(2) is each.others[0] is not each.between
    assert len(each.others) == 1, "eleven steps in spans of four have two boundaries"
    assert [name for name, _ in each.at(2).named_parameters()] == [name for name, _ in each.between.named_parameters()]


class Listener(Synthesizer):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__()
        self.a, self.heard = nn.Parameter(torch.ones((), dtype=torch.float64)), []

    def forward(self, h, c):
        self.heard.append(c)
        return self.a * h


def test_a_synthesizer_is_told_what_is_asked_for_behind_its_boundary():
    """A state that does not hold what it is to remember does not tell which gradient would let it."""
    execution = made("sg")
    between(execution).synthesizer = listener = Listener()
    x, y = batch()
    played(execution, x, y)
    asked, learnt = listener.heard[:-1], listener.heard[-1]
    assert [torch.equal(c, behind(y, k)) for c, k in zip(asked, (4, 8), strict=True)] == [True, True]
    assert torch.equal(learnt, torch.cat([behind(y, 8), behind(y, 4)]))
    assert not learnt[:BATCH, -CLASSES:].any(), "behind the end nothing is asked for"


@pytest.mark.parametrize("task", TASKS)
def test_a_synthesizer_that_knows_is_backpropagation_through_time(task):
    execution = made("sg", task=TASKS[task])
    x, y = batch(TASKS[task])
    known = Oracle(execution, x, y)
    for k in (1, 2):
        execution.stages[0].interface.at(k).synthesizer = known
    played(execution, x, y)
    assert_same(gradients(network_of(execution)), autograd(execution, x, y))
    assert known.weight.grad.abs() < 1e-12, "it has nothing to learn"


@pytest.mark.parametrize("rule", RULES)
def test_a_span_as_long_as_the_sequence_is_backpropagation_through_time(rule):
    execution = made(rule, span=STEPS)
    x, y = batch()
    played(execution, x, y)
    assert_same(gradients(network_of(execution)), autograd(execution, x, y))


@pytest.mark.parametrize("λ", [0.0, 0.5, 1.0])
def test_targets_are_the_mixture_of_later_ones(λ):
    """t_k = ∂ℓ_k/∂s_k + J_kᵀ ((1 − λ) ĝ_{k+1} + λ t_{k+1}), from the end; λ = 1: the true gradients."""
    execution = taught(made("sg", later=λ))
    x, y = batch()
    played(execution, x, y)
    net, (predictions, targets) = network_of(execution), between(execution).last
    states = [s for s, _ in true_gradients(execution, x, y)]
    expected, t = [], None
    for k in reversed(range(len(states))):
        s, part = states[k].requires_grad_(), slice((k + 1) * SPAN, (k + 2) * SPAN)
        output, end = net.unroll(x[:, part], s)
        loss = execution.task.loss(output, y[:, part])
        if t is not None:
            ĝ = between(execution).synthesizer(end.detach(), behind(y, part.stop)) / BATCH
            loss = loss + ((1 - λ) * ĝ.detach() + λ * t).mul(end).sum()
        (t,) = torch.autograd.grad(loss, s)
        expected.append(t * BATCH)
    torch.testing.assert_close(targets, torch.cat(expected))
    assert predictions.abs().max() > 1e-3
    if λ == 1:
        true = [g * BATCH for _, g in reversed(true_gradients(execution, x, y))]
        torch.testing.assert_close(targets, torch.cat(true))


def test_the_whole_share_of_the_true_gradient_is_backpropagation_through_time():
    execution = taught(made("sg"))
    between(execution).mixed = execution.method.mixed = lambda n: 1.0
    x, y = batch()
    played(execution, x, y)
    assert_same(gradients(network_of(execution)), autograd(execution, x, y))


@pytest.mark.parametrize("later", [0.0, 0.9])
def test_gradients_of_the_network_have_no_trace_of_the_fit(later):
    """They are those of Σ_k ℓ_k + ⟨s_{k+1}, ĝ_{k+1}⟩ with every s_k and every ĝ cut off, whatever the targets are."""
    execution = taught(made("sg", later=later))
    x, y = batch()
    played(execution, x, y)
    net = copy.deepcopy(network_of(execution))
    net.zero_grad()
    s, total = net.start(x), 0.0
    for t in range(0, STEPS, SPAN):
        output, s = net.unroll(x[:, t : t + SPAN], s.detach())
        total = total + execution.task.loss(output, y[:, t : t + SPAN])
        if t + SPAN < STEPS:
            total = total + (between(execution).synthesizer(s.detach(), behind(y, t + SPAN)).detach() / BATCH * s).sum()
    total.backward()
    assert_same(gradients(network_of(execution)), gradients(net))


def test_the_fit_is_that_of_all_boundaries_and_reaches_the_synthesizer_alone():
    execution = taught(made("sg"))
    x, y = batch()
    played(execution, x, y)
    predictions, targets = between(execution).last
    found = gradients(between(execution))
    states = torch.cat([s for s, _ in reversed(true_gradients(execution, x, y))])
    clone = copy.deepcopy(between(execution).synthesizer)
    clone.zero_grad()
    told = torch.cat([behind(y, k) for k in (8, 4)])
    (F.mse_loss(clone(states, told), targets, reduction="sum") / (2 * len(targets))).backward()
    assert_same(found, {f"synthesizer.{name}": g for name, g in gradients(clone).items()})
    torch.testing.assert_close(predictions, clone(states, told))


def test_the_state_is_carried_from_batch_to_batch_and_reset_where_an_epoch_begins():
    execution = made("sg", task=Characters(CLASSES))
    parts = streams(3)
    outputs = [played(execution, x, y, n, ahead=2 - n) for n, (x, y) in enumerate(parts)]
    whole = network_of(execution)(torch.cat([x for x, _ in parts], dim=1))
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole)
    torch.testing.assert_close(played(execution, *parts[0], n=3, ahead=1), whole[:, :6])


def test_a_boundary_between_two_batches_is_one_like_the_others():
    """Under fixed weights two batches make, together, the gradients of one that is as long as both."""
    halves, task = streams(2), Characters(CLASSES)
    together, apart = taught(made("sg", task=task, span=3)), taught(made("sg", task=task, span=3))
    played(together, *(torch.cat(columns, dim=1) for columns in zip(*halves, strict=True)))
    found = []
    for n, (x, y) in enumerate(halves):
        played(apart, x, y, n, ahead=1 - n)
        found.append(gradients(network_of(apart)))
    assert_same({k: found[0][k] + found[1][k] for k in found[0]}, gradients(network_of(together)))
    # The second half's two boundaries, its beginning among them; the whole has one more.
    torch.testing.assert_close(between(apart).last[1], between(together).last[1][: 2 * BATCH])


@pytest.mark.parametrize("later", [0.0, 0.9])
def test_a_resumed_run_is_an_uninterrupted_one_with_its_state(later):
    def run(pause):
        execution = made("sg", task=Characters(CLASSES), span=3, later=later)
        optimizer = torch.optim.Adam(execution.stages[0].parameters(), lr=0.01)
        for n, (x, y) in enumerate(streams(5)):
            if n == pause:
                kept = copy.deepcopy((execution.stages[0].state_dict(), optimizer.state_dict(), execution.state_dict()))
                execution = made("sg", task=Characters(CLASSES), span=3, later=later)
                optimizer = torch.optim.Adam(execution.stages[0].parameters(), lr=0.01)
                execution.stages[0].load_state_dict(kept[0])
                optimizer.load_state_dict(kept[1])
                execution.load_state_dict(kept[2], torch.device("cpu"))
            played(execution, x, y, n, ahead=4 - n)
            optimizer.step()
        return execution.stages[0].state_dict()

    whole, resumed = run(None), run(3)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_other_weights_can_be_asked_for_the_same_batch():
    execution = made("sg", task=Characters(CLASSES))
    for n, (x, y) in enumerate(streams(2)):
        output = played(execution, x, y, n, ahead=1)
    torch.testing.assert_close(execution.through([execution.stages[0].block], x), output)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("rule", sorted(set(options("method")) - {*RULES, "coarse"}))
def test_a_method_that_is_none_in_time_says_so(rule, stages):
    parts, each = blocks("lstm", CLASSES, layers=2, stages=stages), method(*words("method", rule))
    with pytest.raises(ValueError, match="does not train recurrent networks"):
        make_stages(parts, (STEPS, FEATURES), TASKS["symbols"], each)


def test_what_does_not_go_together_is_refused():
    rule = rules()["sg"]
    with pytest.raises(ValueError, match="execution=unrolled is for recurrent networks"):
        Unrolled(
            make_stages(network((4,), 2, "arch=mlp").cut(1), (4,), Classification(2), rule), rule, span=2, later=0.0
        )
    recurrent = make_stages(blocks("gru", 1), (STEPS, FEATURES), AtEnd(Regression(1)), rule)
    with pytest.raises(ValueError, match="execution=serial plays stages in depth"):
        Serial(recurrent, rule, lag=0)
    assert "reads sequences" in refusal(lambda: instantiate(NODES["lstm"], (4,), 2))
    assert isinstance(recurrent[0].interface.between, Synthetic)
