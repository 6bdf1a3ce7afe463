"""Methods whose interfaces are told something else than the gradient, against their published formulas."""

import copy

import pytest
import torch
from torch.nn import functional as F

from composing import method
from costate.execution.serial import Serial
from costate.methods.backprop import Feedback
from costate.methods.compression import Largest
from costate.methods.local import Critic
from costate.training.module import stages as make_stages
from trained import SHAPE, TASK, assert_same, batches, blocks, bodies, train


def one_batch(rule, count: int = 3, steps: int = 1):
    stages = make_stages(copy.deepcopy(blocks("mlp", count)), SHAPE, TASK, rule)
    serial = Serial(stages, rule, lag=0)
    for n, (x, y) in enumerate(batches(steps)):
        for stage in stages:
            stage.zero_grad()
        serial.step(n, x, y)
    return stages, x, y


def test_feedback_is_the_outputs_error_by_a_fixed_matrix_at_every_boundary():
    """Nøkland (2016), equation 7: δ a_i = (B_i e) ⊙ f'(a_i), without the weights of the layers behind."""
    stages, x, y = one_batch(method("method=feedback"))
    h = x
    states = [h := stage.block(h) for stage in stages]
    e = (states[-1].softmax(dim=1) - F.one_hot(y, TASK.outputs)) / len(y)
    for k, stage in enumerate(stages[:-1]):
        assert isinstance(stage.interface, Feedback)
        inlet = x if k == 0 else states[k - 1].detach()
        weights = list(stage.block.parameters())
        expected = torch.autograd.grad(stage.block(inlet), weights, (e @ stage.interface.B).view_as(states[k]))
        for p, g in zip(weights, expected, strict=True):
            torch.testing.assert_close(p.grad, g)


def test_feedback_matrices_never_change():
    rule = method("method=feedback")
    before = [stage.interface.B.clone() for stage in make_stages(blocks("mlp", 3), SHAPE, TASK, rule)[:-1]]
    after, _ = train(blocks("mlp", 3), rule)
    assert all(torch.equal(B, stage.interface.B) for B, stage in zip(before, after, strict=False))


def test_a_critic_steps_its_stage_on_its_guess_and_learns_the_next_loss_sample_by_sample():
    """Lee et al. (2022), equations 3 to 5."""
    stages, x, y = one_batch(method("method=critic", "method.width=8"))
    h, states = x, []
    for stage in stages:
        states.append(h := stage.block(h.detach()))
    guesses = [stage.interface.guesses for stage in stages[:-1]]
    losses = [F.cross_entropy(c(h), y, reduction="none") for c, h in zip(guesses, states, strict=False)]
    losses.append(F.cross_entropy(states[-1], y, reduction="none"))
    for k, stage in enumerate(stages[:-1]):
        own = list(stage.block.parameters())
        for p, g in zip(own, torch.autograd.grad(losses[k].mean(), own, retain_graph=True), strict=True):
            torch.testing.assert_close(p.grad, g)
        fit = (F.cross_entropy(guesses[k](states[k].detach()), y, reduction="none") - losses[k + 1].detach()).abs()
        critic = list(guesses[k].parameters())
        for p, g in zip(critic, torch.autograd.grad(fit.mean(), critic), strict=True):
            torch.testing.assert_close(p.grad, g)


def test_a_critic_that_is_the_network_behind_is_backprop():
    parts, rule = blocks("mlp", 2), method("method=critic")
    rule.guesses = lambda shape, outputs: copy.deepcopy(parts[1])
    assert isinstance(rule.interface((12,), TASK, parts[1:]), Critic)
    exact, _ = train(parts, method("method=backprop"), steps=1)
    guessed, _ = train(parts, rule, steps=1)
    assert_same(bodies(guessed), bodies(exact))


@pytest.mark.parametrize("rule", ["backprop", "sg", "delayed", "replay"])
def test_all_of_the_entries_are_the_gradient(rule):
    plain, _ = train(blocks("verlet", 3), method(f"method={rule}"))
    largest = method(f"method={rule}", "method.compress=topk", "method.share=1")
    assert isinstance(largest.post(TASK), Largest)
    assert_same(train(blocks("verlet", 3), largest)[0], plain)
    signs, _ = train(blocks("verlet", 3), method(f"method={rule}", "method.compress=sign"))
    assert not torch.equal(next(signs[0].parameters()), next(plain[0].parameters())) or rule == "sg"


def test_a_critic_is_not_told_gradients():
    rule = method("method=critic")
    serial = Serial(make_stages(blocks("mlp", 2), SHAPE, TASK, rule), rule, lag=0)
    with pytest.raises(ValueError, match=r"levels\.coarse_method=sg"):
        serial.guide(method("method=backprop"))
