"""A boundary in time, in a plain loop: the gradients of spans, and none of what the synthesizer learns."""

import copy
import re
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

import costate
from composing import method
from costate.core.tasks import Characters
from costate.execution.unrolled import Unrolled
from costate.methods.synthetic_gradients import Linear
from costate.training.module import stages as make_stages
from small import NODES, RECURRENT

PAGE = Path(__file__).parents[2] / "docs/time.md"
SHAPE, CLASSES, ROWS, SPAN = (9, 3), 4, 5, 3


def unrolled(arch):
    """Two batches of a stream, by the method; interfaces have weights, as if they had learned."""
    torch.manual_seed(0)
    rule = method("method=sg", "method/synthesizer=linear")
    blocks = instantiate(NODES[arch], SHAPE, CLASSES).cut(1)
    parts = [part.double() for part in make_stages(blocks, SHAPE, Characters(CLASSES), rule)]
    for p in parts[0].interface.between.parameters():
        nn.init.normal_(p, std=0.2)
    return Unrolled(parts, rule, span=SPAN, later=0.0)


def batches():
    random = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(ROWS, *SHAPE, generator=random, dtype=torch.float64),
            torch.randint(CLASSES, (ROWS, SHAPE[0]), generator=random),
        )
        for _ in range(2)
    ]


def by_hand(net, boundary, task):
    """The plain loop over the same batches: gradients of each of them."""
    state, found = None, []
    for x, y in batches():
        net.zero_grad()
        boundary.zero_grad()
        s = net.start(x) if state is None else state.requires_grad_()
        loss = 0.0
        for t in range(0, SHAPE[0], SPAN):
            output, s = net.unroll(x[:, t : t + SPAN], boundary(s) if t or state is not None else s)
            loss = loss + task.loss(output, y[:, t : t + SPAN])
        told = boundary.synthesizer(s.detach(), None).detach()
        (loss + (s * told).sum() / ROWS).backward()
        found.append([copy.deepcopy([p.grad for p in module.parameters()]) for module in (net, boundary)])
        state = s.detach()
    return found


@pytest.mark.parametrize("arch", RECURRENT)
def test_gradients_are_those_of_spans_with_the_state_carried_on(arch):
    execution = unrolled(arch)
    net, between = execution.stages[0].block.chain[0], execution.stages[0].interface.between
    boundary = costate.Boundary((net.cell.size,), synthesizer=Linear).double()
    boundary.synthesizer.load_state_dict(between.synthesizer.state_dict())
    found = by_hand(copy.deepcopy(net), boundary, execution.task)
    for n, ((x, y), (network, synthesizer)) in enumerate(zip(batches(), found, strict=True)):
        execution.stages[0].zero_grad()
        # Both batches have another one behind them.
        execution.step(n, x, y, ahead=1)
        for p, g in zip(net.parameters(), network, strict=True):
            torch.testing.assert_close(g, p.grad)
        for p, g in zip(between.parameters(), synthesizer, strict=True):
            # The loop adds up the fits of its boundaries, of which the second batch has one more.
            torch.testing.assert_close(g, p.grad * (2 + n))


def test_gradients_of_the_network_have_no_trace_of_the_fit():
    """They are those of the losses and of what is predicted, whatever the synthesizer's weights get."""
    execution = unrolled("lstm")
    net = execution.stages[0].block.chain[0]
    boundary = costate.Boundary((net.cell.size,), synthesizer=Linear).double()
    boundary.synthesizer.load_state_dict(execution.stages[0].interface.between.synthesizer.state_dict())
    (found, fit), _ = by_hand(copy.deepcopy(net), boundary, execution.task)
    (x, y), s, total = batches()[0], net.start(batches()[0][0]), 0.0
    for t in range(0, SHAPE[0], SPAN):
        output, s = net.unroll(x[:, t : t + SPAN], s.detach())
        total = total + execution.task.loss(output, y[:, t : t + SPAN])
        total = total + (s * boundary.synthesizer(s.detach(), None).detach()).sum() / ROWS
    for g, expected in zip(found, torch.autograd.grad(total, list(net.parameters())), strict=True):
        torch.testing.assert_close(g, expected)
    assert all(g.abs().max() > 1e-3 for g in fit)


@pytest.mark.thorough
def test_the_loop_of_the_docs_learns_what_its_first_batch_has_no_loss_for():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 26
    names: dict[str, object] = {}
    exec(compile(code, "time.md", "exec"), names)
    assert names["accuracy"] > 0.95
