"""Parallel variable distribution on networks: f, its pieces, and what an outer iteration does to it."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from composing import method, network
from costate.architectures.chain import Chain
from costate.core.tasks import Classification
from costate.execution.serial import Serial
from costate.methods.network_loss import NetworkLoss
from costate.methods.variable_distribution import variables
from costate.pvd import InTurn
from costate.training.module import stages as make_stages
from small import STABLE
from trained import CLASSES, NETWORKS, SHAPE, TASK

ROWS = 13


LAYERS = {name: network(SHAPE, CLASSES, *words).cut(1)[0].layers for name, words in NETWORKS.items()}


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, *SHAPE, generator=generator), torch.randint(CLASSES, (ROWS,), generator=generator)


def iteration(name: str, *overrides: str, seed: int = 0, double: bool = False) -> Any:
    """The outer iteration of a small network, cut as the method wants it."""
    torch.manual_seed(seed)
    rule = method("method=pvd", "method.piece=5", *overrides)
    net = network(SHAPE, CLASSES, *NETWORKS[name])
    parts = make_stages(rule.cut(net, rule.blocks - (rule.head == "own")), SHAPE, TASK, rule)
    return rule.iteration(Serial([part.double() for part in parts] if double else parts, rule, lag=0))


def advance(outer: Any, seed: int = 0) -> dict[str, float]:
    x, y = batch(seed)
    outer.gradient(0, x, y, ahead=0)
    parameters, _ = variables(outer.networks, outer.own_head)
    outer.advance(torch.optim.SGD(parameters, lr=0.1))
    return outer.report()


def loss(outer: Any, piece: int, minibatch: int | None = None, double: bool = False) -> NetworkLoss:
    x, y = batch()
    parameters, _ = variables(outer.networks, outer.own_head)
    x = x.double() if double else x
    return NetworkLoss(outer.networks, parameters, TASK, x, y, piece, InTurn().mean, minibatch)


@settings(max_examples=4, deadline=None)
@given(
    name=st.sampled_from([name for name, layers in LAYERS.items() if layers > 2]),
    p=st.integers(1, 3),
    head=st.sampled_from(["every", "own"]),
    directions=st.sampled_from(["steepest", "optimizer"]),
    solver=st.sampled_from([("lbfgs", "steps=2"), ("adam", "steps=2", "lr=0.01"), ("adam", "steps=2", "lr=1")]),
    seed=st.integers(0, 10**6),
)
def test_f_never_rises_over_an_outer_iteration(name, p, head, directions, solver, seed):
    kind, *rest = solver
    words = [f"method/solver={kind}", *(f"method.solver.{word}" for word in rest)]
    # Where the last layer is a block of its own, the group that it is taken from keeps another one.
    p = min(max(p, 2), LAYERS[name] // 2 + 1) if head == "own" else p
    words += [f"method.blocks={p}", f"method.head={head}"]
    outer = iteration(name, *words, f"method.directions={directions}", "method.synchronisation=3", seed=seed)
    for n in range(2):
        told = advance(outer, seed=0)
        ends = [value for key, value in told.items() if key.startswith("pvd/f/worker/")]
        assert told["pvd/f/end"] <= min(ends) <= max(ends) <= told["pvd/f/start"]
        f = loss(outer, piece=5)
        assert f.value(f.read()).item() == told["pvd/f/end"], f"the network has the new weights, iteration {n}"


@pytest.mark.parametrize("name", STABLE)
def test_pieces_make_up_the_whole(name):
    outer = iteration(name, double=True)
    whole, pieces = (loss(outer, piece, double=True) for piece in (ROWS, 4))
    x = whole.read()
    value, g = whole.gradient(x)
    torch.testing.assert_close(pieces.gradient(x), (value, g), rtol=0, atol=1e-12)
    torch.testing.assert_close(pieces.value(x), value, rtol=0, atol=1e-12)
    d = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    near, far = ((whole.value(x + ε * d) - whole.value(x - ε * d)) / (2 * ε) for ε in (1e-5, 2e-5))
    # Of the fourth order in ε: a network that oscillates fast has large third derivatives.
    torch.testing.assert_close((4 * near - far) / 3, g @ d, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_the_solver_is_told_the_annealed_rate(factor, monkeypatch):
    """As a factor on its own rate: that by which the optimizer's rate has been annealed."""
    outer, told = iteration("verlet", "method/solver=adam", "method.solver.steps=2"), []
    plain = outer.method.distribution.solver.minimise
    monkeypatch.setattr(
        outer.method.distribution.solver, "minimise", lambda f, v, rate=1.0: told.append(rate) or plain(f, v, rate)
    )
    x, y = batch()
    outer.gradient(0, x, y, ahead=0)
    optimizer = torch.optim.SGD(variables(outer.networks, outer.own_head)[0], lr=0.2)
    annealing = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: factor)
    outer.advance(optimizer)
    annealing.step()
    assert told == pytest.approx([factor] * 2)


def test_samples_are_rows_of_the_batch_in_turn():
    f = loss(iteration("verlet"), ROWS, minibatch=5)
    assert [len(f.sample(i).X) for i in range(4)] == [5, 4, 4, 5]
    assert torch.equal(torch.cat([f.sample(i).X for i in range(3)]), f.X)
    assert f.sample(0).sample(1) is not f


def test_mini_batches_are_the_solvers_alone():
    """f of the whole batch still never rises."""
    outer = iteration("verlet", "method/solver=adam", "method.minibatch=4", "method.solver.lr=0.05")
    told = advance(outer)
    assert told["pvd/f/end"] <= min(told["pvd/f/worker/0"], told["pvd/f/worker/1"]) < told["pvd/f/start"]


def test_the_last_layer_belongs_to_every_worker_or_is_a_block():
    for words, blocks in (((), 2), (("method.head=own", "method.blocks=3"), 3)):
        outer = iteration("verlet", *words)
        parameters, found = variables(outer.networks, outer.own_head)
        assert len(found) == blocks
        head = sum(p.numel() for p in outer.networks[-1].head.parameters())
        owned = [[part.stop - part.start for part in found.own(l)] for l in range(blocks)]
        assert sum(p.numel() for p in parameters) == found.size
        assert all(sizes[-1] == head for sizes in owned) == (blocks == 2)
        assert owned[-1][-1] == head


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_batch_norms_have_the_statistics_of_the_batch_under_the_new_weights(name):
    outer = iteration(name)
    advance(outer)
    f = loss(outer, piece=5)
    found = [b.clone() for b in f.buffers]
    f.gradient(f.read())
    assert all(map(torch.equal, f.buffers, found)), "to ask for f leaves them alone"
    norms = [m for net in outer.networks for m in net.modules() if type(m).__name__ == "Norm"]
    assert all(norm.mean.any() for norm in norms)
    if name == "cnn":
        conv = outer.networks[0].chain[0].conv
        torch.testing.assert_close(norms[0].mean[0], conv(f.X).mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_what_contradicts_itself_is_refused():
    for words, sentence in (
        (("method.minibatch=4",), "needs method/solver=adam"),
        (("method.blocks=1", "method.head=own"), "choose method.blocks=2 or more"),
    ):
        with pytest.raises(Exception, match=sentence):
            iteration("verlet", *words)
    with pytest.raises(ValueError, match="leaves a group of layers without a layer"):
        advance(iteration("mlp", "method.head=own", "method.blocks=4"))


@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
def test_running_statistics_of_any_batch_norm_become_those_of_the_batch(momentum):
    """However fast they move in training: it was a tenth a pass for all."""
    norm = nn.BatchNorm1d(3, momentum=momentum)
    block = Chain(nn.Sequential(norm, nn.Linear(3, 2)))
    X, y = torch.randn(12, 3), torch.arange(12) % 2
    f = NetworkLoss([block], list(block.parameters()), Classification(2), X, y, piece=12, mean=lambda x: x)
    for _ in range(2):
        f.settle()
        torch.testing.assert_close(norm.running_mean, X.mean(0))
        torch.testing.assert_close(norm.running_var, X.var(0))


def test_a_network_with_dropout_is_refused():
    """f of a batch would be another one at each call."""
    rule, shape = method("method=pvd"), (6,)
    blocks = network(shape, CLASSES, "arch=sequential", "arch.module=own_network:random").cut(2)
    serial = Serial(make_stages(blocks, shape, TASK, rule), rule, lag=0)
    with pytest.raises(ValueError, match="method=pvd asks for the loss of a batch again and again, and dropout"):
        rule.iteration(serial)
    serial.stages[0].block.eval()
    serial.stages[1].block.eval()
    rule.iteration(serial)


def test_the_loss_that_is_logged_is_that_of_the_task():
    """As of every method: the penalty on weights that change fast is part of f alone."""
    rule = method("method=pvd")
    (block,) = network(SHAPE, CLASSES, "arch=resnet", "arch.depth=4", "arch.width=4", "arch.smoothness=1").cut(1)
    block.field.K.data += torch.randn_like(block.field.K)
    outer: Any = rule.iteration(Serial(make_stages([block], SHAPE, TASK, rule), rule, lag=0))
    x, y = batch()
    expected, penalty = TASK.loss(block(x), y), block.penalty()
    outer.gradient(0, x, y, ahead=0)
    assert penalty > 0.1
    torch.testing.assert_close(outer.loss.value, expected.detach())
    outer.advance(torch.optim.SGD(block.parameters(), lr=0.1))
    assert outer.report()["pvd/f/start"] == pytest.approx((expected + penalty).item(), rel=1e-5)
