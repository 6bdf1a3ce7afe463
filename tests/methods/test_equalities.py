"""Methods against autograd and against each other, tensor by tensor, bit for bit, over several optimizer steps."""

import copy

import pytest
import torch
from torch import Tensor, nn

from composing import method, options
from costate.core.method import Method
from costate.core.stage import Stage
from costate.core.tasks import Classification, Regression
from costate.execution.serial import Serial
from costate.methods.synthetic_gradients import Linear, Synthesizer, Synthetic, SyntheticGradients
from costate.training.module import stages as make_stages
from trained import BATCH, CLASSES, NETWORKS, SHAPE, STEPS, TASK, assert_same, batches, blocks, bodies, step_all, train


def autograd(parts: list[nn.Module]) -> tuple[nn.Sequential, list[Tensor]]:
    """The uncut network under plain PyTorch."""
    net, losses = nn.Sequential(*copy.deepcopy(parts)), []
    optimizer = step_all(list(net.parameters()))
    for x, y in batches():
        optimizer.zero_grad()
        loss = TASK.loss(net(x), y)
        penalties = [penalty for part in net if (penalty := part.penalty()) is not None]
        torch.stack([loss, *penalties]).sum().backward() if penalties else loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return net, losses


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_and_locked_is_autograd(name):
    parts = blocks(name, 3)
    net, expected = autograd(parts)
    stages, losses = train(parts, method("method=backprop"))
    assert_same(bodies(stages), list(net))
    assert all(map(torch.equal, losses, expected))


@pytest.mark.parametrize("name", ["mlp", "verlet", "leapfrog_conv"])
@pytest.mark.parametrize("lag", [0, 1])
def test_a_whole_share_of_the_true_gradient_is_backprop(name, lag):
    parts = blocks(name, 3)
    mixed, _ = train(parts, method("method=sg", "method.mix=1"), lag=lag)
    exact, _ = train(parts, method("method=backprop"))
    assert_same(bodies(mixed), bodies(exact))


@pytest.mark.parametrize("rule", options("method"))
def test_one_stage_is_backprop(rule):
    parts = blocks("verlet", 1)
    net, _ = autograd(parts)
    stages, _ = train(parts, method(f"method={rule}"))
    assert_same(bodies(stages), list(net))


@pytest.mark.parametrize("synthesizer", ["linear", "mlp", "suited"])
def test_an_untrained_synthesizer_is_none(synthesizer):
    parts = blocks("leapfrog_conv", 3)
    silent, _ = train(parts, method("method=none"))
    synthetic, _ = train(parts, method("method=sg", f"method/synthesizer={synthesizer}"), frozen=True)
    assert_same(bodies(synthetic), bodies(silent))
    # And none is no backprop: all but the last stage stand still, save for the smoothness penalty.
    exact, _ = train(parts, method("method=backprop"))
    assert not torch.equal(next(bodies(silent)[0].parameters()), next(bodies(exact)[0].parameters()))


class Oracle(Synthesizer):
    """Is told the true gradient of each batch before it is asked."""

    def __init__(self, shape: tuple[int, ...], context: int):
        super().__init__()
        self.told: list[Tensor] = []
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor, c: Tensor | None) -> Tensor:
        return self.told[-1] * len(h) + 0 * self.unused


def oracle_method() -> SyntheticGradients:
    return SyntheticGradients(conditioned=True, warmup_steps=0, mix=0.0, synthesizer=Oracle)


@pytest.mark.parametrize("name", ["mlp", "verlet", "antisymmetric_conv"])
def test_a_synthesizer_that_is_handed_the_true_gradient_is_backprop(name):
    parts, rule = blocks(name, 3), oracle_method()
    stages = make_stages(copy.deepcopy(parts), SHAPE, TASK, rule)
    serial, optimizer = Serial(stages, rule, lag=0), step_all([p for stage in stages for p in stage.block.parameters()])
    for n, (x, y) in enumerate(batches()):
        for stage, g in zip(stages, _true_gradients(bodies(stages), x, y), strict=False):
            stage.interface.synthesizer.told.append(g)
        optimizer.zero_grad()
        serial.step(n, x, y)
        optimizer.step()
    exact, _ = train(parts, method("method=backprop"))
    assert_same(bodies(stages), bodies(exact))


def _true_gradients(parts: list[nn.Module], x: Tensor, y: Tensor) -> list[Tensor]:
    states, h = [], x
    for part in copy.deepcopy(parts):
        h = part(h)
        states.append(h)
    return list(torch.autograd.grad(TASK.loss(h, y), states[:-1]))


def test_warmup_is_backprop_while_synthesizers_learn_and_sg_after_it():
    parts = blocks("verlet", 2)
    warm, _ = train(parts, method("method=sg", f"method.warmup_steps={STEPS}"))
    exact, _ = train(parts, method("method=backprop"))
    assert_same(bodies(warm), bodies(exact))
    weight = warm[0].interface.synthesizer.state_dict()
    assert all(value.any() for value in weight.values())
    longer, _ = train(parts, method("method=sg", f"method.warmup_steps={STEPS}"), steps=STEPS + 2)
    backprop, _ = train(parts, method("method=backprop"), steps=STEPS + 2)
    assert not torch.equal(next(longer[0].block.parameters()), next(backprop[0].block.parameters()))


def test_a_mixture_is_a_mixture():
    parts = blocks("mlp", 2)
    (x, y), share = batches(1)[0], 0.3
    rule = method("method=sg", f"method.mix={share}")
    stages = make_stages(parts, SHAPE, TASK, rule)
    for parameter in stages[0].interface.parameters():
        nn.init.normal_(parameter)
    h = stages[0](x)
    true = torch.autograd.grad(TASK.loss(stages[1](h), y), h)[0]
    guess = stages[0].interface.synthesizer(h.detach(), TASK.describe(y)) / BATCH
    expected = torch.autograd.grad(h, next(stages[0].block.parameters()), share * true + (1 - share) * guess)[0]
    Serial(stages, rule, lag=0).step(0, x, y)
    torch.testing.assert_close(next(stages[0].block.parameters()).grad, expected)


@pytest.mark.parametrize("name", ["mlp", "verlet", "leapfrog_conv"])
@pytest.mark.parametrize("lag", [0, 1])
def test_the_regression_never_reaches_the_network(name, lag):
    """A known leak of older libraries: the synthesizer's loss bent the gradients of the stage in front of it."""
    rule = method("method=sg")
    stages = make_stages(blocks(name, 3), SHAPE, TASK, rule)
    _noise(stages)
    without = copy.deepcopy(stages)
    for stage in without:
        stage.learn = lambda n, target: None
    for step, parts in ((Serial(s, rule, lag=lag).step, s) for s in (stages, without)):
        for n, (x, y) in enumerate(batches(2)):
            step(n, x, y)
        assert all(p.grad is not None for part in bodies(parts) for p in part.parameters())
    for a, b in zip(bodies(stages), bodies(without), strict=True):
        assert all(torch.equal(p.grad, q.grad) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert all(p.grad is not None for p in stages[0].interface.parameters())


def _noise(stages: list[Stage]) -> None:
    for stage in stages:
        for parameter in stage.interface.parameters():
            nn.init.normal_(parameter, std=0.1)


def test_fit_detaches_the_state_by_itself():
    interface = Synthetic(Linear((5,), CLASSES), TASK, lambda n: 0.0)
    nn.init.normal_(interface.synthesizer.layer.weight)
    h = torch.randn(BATCH, 5, requires_grad=True)
    g = torch.randn(BATCH, 5, requires_grad=True)
    interface.fit(h, torch.zeros(BATCH, dtype=torch.long), g).backward()
    assert h.grad is None
    assert g.grad is None


@pytest.mark.parametrize("copies", [1, 3])
def test_targets_are_gradients_of_each_samples_own_loss(copies):
    """Whatever the batch size: the same samples several times over leave each one's target as it was."""
    rule = method("method=sg")
    stages = make_stages(blocks("mlp", 2), SHAPE, TASK, rule)
    x, y = batches(1)[0]
    Serial(stages, rule, lag=0).step(0, x.repeat(copies, 1, 1, 1), y.repeat(copies))
    _, target = stages[0].interface.last
    for i in range(BATCH):
        h = stages[0](x[i : i + 1]).detach().requires_grad_()
        own = torch.autograd.grad(TASK.loss(stages[1](h), y[i : i + 1]), h)[0]
        torch.testing.assert_close(target[i], own[0])


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_a_synthesizer_learns_from_the_next_stage_so_many_batches_late(lag):
    rule = method("method=sg", "method.conditioned=false")
    stages = make_stages(blocks("mlp", 2), SHAPE, TASK, rule)
    serial, optimizer = Serial(stages, rule, lag=lag), step_all([p for s in stages for p in s.parameters()])
    targets = []
    for n, (x, y) in enumerate(batches()):
        h = stages[0](x).detach().requires_grad_()
        targets.append(torch.autograd.grad(TASK.loss(stages[1](h), y), h)[0] * BATCH)
        optimizer.zero_grad()
        serial.step(n, x, y)
        optimizer.step()
        last = stages[0].interface.last
        assert (last is None) == (n < lag)
        if last is not None:
            assert torch.equal(last[1], targets[n - lag])


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_a_resumed_execution_is_an_uninterrupted_one(lag):
    rule = method("method=sg")
    straight, _ = train(blocks("verlet", 3), rule, lag=lag)
    stages = make_stages(blocks("verlet", 3), SHAPE, TASK, rule)
    optimizer, serial = step_all([p for s in stages for p in s.parameters()]), Serial(stages, rule, lag=lag)
    for n, (x, y) in enumerate(batches()):
        if n == 2:
            stages, optimizer, serial = _reborn(stages, optimizer, serial, rule)
        optimizer.zero_grad()
        serial.step(n, x, y)
        optimizer.step()
    assert_same(stages, straight)


def _reborn(
    stages: list[Stage], optimizer: torch.optim.Optimizer, serial: Serial, rule: Method
) -> tuple[list[Stage], torch.optim.Optimizer, Serial]:
    """As if read from a file by another process."""
    fresh = make_stages(blocks("verlet", 3), SHAPE, TASK, rule)
    for stage, old in zip(fresh, stages, strict=True):
        stage.load_state_dict(old.state_dict())
    stepper = step_all([p for s in fresh for p in s.parameters()])
    stepper.load_state_dict(optimizer.state_dict())
    player = Serial(fresh, rule, lag=serial.lag)
    player.load_state_dict(copy.deepcopy(serial.state_dict()), torch.device("cpu"))
    return fresh, stepper, player


@pytest.mark.parametrize("task", [Classification(4), Regression(2)])
def test_a_label_is_told_as_numbers(task):
    y = torch.tensor([2, 0]) if isinstance(task, Classification) else torch.tensor([[0.5, -1.0], [2.0, 0.0]])
    expected = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0]]) if isinstance(task, Classification) else y
    assert torch.equal(task.describe(y), expected)
