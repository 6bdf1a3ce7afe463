"""A coarse copy of what is behind: when it is backpropagation, how wrong it is, and what it is of."""

import copy

import numpy as np
import pytest
import torch

from composing import method, network, refusal
from costate.core.block import RULES, Coarsening, prolong, restrict
from costate.core.copies import CopiedBlocks, Copies, Likeness
from costate.core.tasks import Classification
from costate.execution.serial import Serial
from costate.methods.coarse import Coarse
from costate.training.module import stages as make_stages
from own_integrator import Drift
from small import PRODUCTS, REBUILT, STABLE, turned
from trained import NETWORKS, TASK, assert_same, batches, blocks, bodies, step_all, train
from trained import SHAPE as SHAPE_OF_TRAINED

SHAPE, CLASSES = (6,), 3


def copied(block, factor: int) -> torch.Tensor:
    """The weights of the block's coarse copy, before they are sent in half precision."""
    weights = Likeness(block, Coarsening(factor)).weights(block).values()
    return torch.cat([weight.detach().reshape(-1) for weight in weights])


def stable(depth: int, *words: str, shape: tuple[int, ...] = SHAPE):
    return network(shape, CLASSES, *words, f"arch.depth={depth}", "arch.width=6", "arch.T=2").double()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("inputs", ["received", "coarse"])
def test_a_fresh_copy_of_every_layer_is_backprop(name, inputs):
    """Of those behind, and of those in front."""
    parts = blocks(name, 3)
    copies, _ = train(parts, method("method=coarse", "method.factor=1", "method.refresh=1", f"method.inputs={inputs}"))
    exact, _ = train(parts, method("method=backprop"))
    assert_same(bodies(copies), bodies(exact))


@pytest.mark.parametrize("inputs", ["received", "coarse"])
def test_stages_without_weights_are_copied_as_well(inputs):
    """There was nothing to put together, and that ended the run."""

    def gradients(*words: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        net, rule = network(SHAPE, CLASSES, "arch=sequential", "arch.module=own_network:bare"), method(*words)
        parts = make_stages(net.cut(4), SHAPE, Classification(CLASSES), rule)
        serial = Serial(parts, rule, lag=0)
        for n in range(2):
            for part in parts:
                part.zero_grad()
            serial.step(n, torch.ones(6, *SHAPE).tril(), torch.arange(6) % CLASSES)
            serial.stepped()
        return [p.grad for part in parts for p in part.block.parameters()]

    found = gradients("method=coarse", "method.factor=1", "method.refresh=1", f"method.inputs={inputs}")
    torch.testing.assert_close(found, gradients("method=backprop"))


@pytest.mark.parametrize("arch", STABLE)
def test_a_copy_of_what_is_near_hands_on_the_gradient_of_what_is_far(arch):
    """Exactly: what is wrong with it is what is wrong one stage behind. With all stages near it is backpropagation."""
    net, task, rule = stable(12, f"arch={arch}"), Classification(CLASSES), Coarsening(3)
    first, second, *rest = net.cut(4)
    x, y = torch.randn(20, *SHAPE).double(), torch.arange(20) % CLASSES
    h = first(x).detach().requires_grad_()
    state = second(h)
    far = Coarse(rest, task, rule).gradient(state.detach(), y, None, 0)
    handed = torch.autograd.grad(state, h, far, retain_graph=True)[0]
    torch.testing.assert_close(Coarse([second, *rest], task, rule, near=1).gradient(h, y, None, 0), handed)
    true = torch.autograd.grad(task.loss(rest[1](rest[0](state)), y), h)[0]
    torch.testing.assert_close(Coarse([second, *rest], task, rule, near=3).gradient(h, y, None, 0), true)


@pytest.mark.parametrize("product", REBUILT)
def test_copies_in_a_network_that_rebuilds_its_states_say_the_same(product):
    """The kicks of longer steps have weights of an earlier time, which rebuilding had left out."""
    shape, more = ((3, 2), ["arch.form.heads=2"]) if "tokens" in product else (SHAPE, [])
    words = [*product.split(), *more]
    if "conv" in product:
        shape, words = (2, 4, 4), [*words, "arch.norm=false"]
    x, y, found = torch.randn(20, *shape).double(), torch.arange(20) % CLASSES, []
    for rebuilds in "false", "true":
        torch.manual_seed(5)
        first, *behind = stable(12, *words, f"arch.reversible={rebuilds}", shape=shape).cut(3)
        for part in (first, *behind):
            smooth(part)
        found.append(Coarse(behind, Classification(CLASSES), Coarsening(2)).gradient(first(x), y, None, 0))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("arch", STABLE)
def test_all_stages_near_and_copied_at_once_are_backprop(arch):
    parts = blocks(arch, 3)
    words = "method.factor=2", "method.step=9", "method.refresh=1"
    near, _ = train(parts, method("method=coarse", *words, "method.near=2"))
    exact, _ = train(parts, method("method=backprop"))
    assert_same(bodies(near), bodies(exact))
    far, _ = train(parts, method("method=coarse", *words))
    assert not torch.equal(copied(far[0].block, 1), copied(exact[0].block, 1))


def smooth(block, shift: float = 0.0) -> None:
    """Weights that are a function of time, the same at every depth."""
    generator = torch.Generator().manual_seed(3)
    for stack in block.stacks():
        if stack.numel() and stack.ndim > 1:
            a, b = (torch.randn(stack.shape[1:], generator=generator, dtype=stack.dtype) for _ in range(2))
            t = (torch.arange(len(stack), dtype=stack.dtype) + 0.5) / len(stack)
            t = t.view(-1, *(1,) * (stack.ndim - 1))
            stack.data = 0.5 * (a * torch.cos(2 * t) + b * torch.sin(3 * t))


@pytest.mark.parametrize(
    ("product", "on"),
    [(p, on) for p in PRODUCTS for on in (False, True) if p.endswith("dense") or (on and p.endswith("tokens"))],
)
def test_at_a_fixed_factor_copies_are_of_the_second_order_in_h(product, on):
    """Though the network is of the first: they make up for what their longer steps leave out.

    So is the gradient at a boundary, and so is the state that those in front are asked for.
    """
    shape, words = ((3, 2), ["arch.form.heads=2", "arch.norm=true"]) if "tokens" in product else (SHAPE, [])
    gradient, state = orders_of_copies(shape, *turned(product, on), *words)
    assert min(gradient, state) > 1.8, (
        f"order {gradient} of the gradient, {state} of the state. Of one field: does `coarser` make up for what longer "
        "steps leave out? Of two: is the whole step of the second field in the first shear, or else `staggered` False?"
    )


def test_copies_of_a_symmetric_step_are_of_the_second_order(monkeypatch):
    """A stranger's position Verlet had copies of the first: its fields were taken to live half a step apart."""
    words = ("arch=leapfrog", "arch/form=dense", "arch.integrator._target_=own_integrator.Drift")
    assert min(orders_of_copies(SHAPE, *words, "~arch.integrator.half_start")) > 1.8
    monkeypatch.setattr(Drift, "staggered", True)
    assert min(orders_of_copies(SHAPE, *words, "~arch.integrator.half_start")) < 1.2


def orders_of_copies(shape: tuple[int, ...], *words: str) -> tuple[float, float]:
    """Of the gradient at a boundary and of the state there, in h at a fixed factor."""
    x = torch.randn(20, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y, task, fine = torch.arange(20) % CLASSES, Classification(CLASSES), Coarsening(1)
    errors = []
    for depth in (256, 512):
        torch.manual_seed(0)
        net = stable(depth, *words, shape=shape)
        smooth(net.block)
        *front, last = net.cut(4)
        h = CopiedBlocks(front[:1], fine)(x)
        pairs = [
            [Coarse([*front[1:], last], task, rule).gradient(h, y, None, 0) for rule in (fine, Coarsening(4))],
            [CopiedBlocks(front, rule)(x) for rule in (fine, Coarsening(4))],
        ]
        errors.append([((coarse - exact).norm() / exact.norm()).item() for exact, coarse in pairs])
    gradient, state = np.log2(np.divide(*errors))
    return gradient, state


@pytest.mark.parametrize("arch", STABLE)
@pytest.mark.parametrize("stages", [2, 4])
def test_coarsening_commutes_with_cutting(arch, stages):
    torch.manual_seed(0)
    net = stable(16, f"arch={arch}")
    smooth(net.block)
    whole = [copied(block, 2) for block in net.cut(stages)]
    coarse = copy.deepcopy(net)
    coarse.block = net.block.coarse(Coarsening(2))
    assert all(map(torch.equal, whole, (copied(block, 1) for block in coarse.cut(stages))))


@pytest.mark.parametrize("arch", STABLE)
def test_coarsening_undoes_a_doubling_by_copies(arch):
    torch.manual_seed(0)
    net = stable(6, f"arch={arch}", "arch.norm=true")
    smooth(net.block)
    before = copied(net.block, 1)
    prolong(RULES["copy"], [net.block])
    assert net.layers == 12
    assert torch.equal(copied(net.block, 2), before)


@pytest.mark.parametrize(("n", "m"), [(7, 3), (5, 2), (8, 3), (3, 1), (6, 6)])
def test_a_mean_over_time_keeps_the_integral_and_a_constant(n, m):
    θ = torch.randn(n, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(restrict(θ, m).mean(dim=0), θ.mean(dim=0))
    torch.testing.assert_close(restrict(torch.ones_like(θ), m), torch.ones(m, 2, 3, dtype=torch.float64))
    # The straight line t at the centres of its intervals: its means are the values at the coarse centres.
    if n % m == 0:
        t = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        torch.testing.assert_close(restrict(t, m), (torch.arange(m, dtype=torch.float64) + 0.5) / m)


@pytest.mark.parametrize("arch", ["mlp", "cnn"])
def test_layers_without_time_steps_are_copied_as_they_are_or_not_at_all(arch):
    parts = network((1, 8, 8), CLASSES, f"arch={arch}").cut(2)
    Coarse(parts[1:], Classification(CLASSES), Coarsening(1))
    with pytest.raises(ValueError, match=r"method\.factor=1"):
        Coarse(parts[1:], Classification(CLASSES), Coarsening(2))


def test_copies_are_made_and_taken_as_drawn():
    copies = Copies(refresh=4, travel=1, tune=0)
    assert [n for n in range(16) if copies.made(n)] == [3, 7, 11, 15]
    assert [n for n in range(16) if copies.taken(n)] == [5, 9, 13]


def test_copies_of_a_share_of_the_run_are_as_many_in_a_short_run_as_in_a_long_one():
    copies = method("method=coarse", "method.refresh=0.1").copies
    assert [sum(map(copies.over(batches).made, range(batches))) for batches in (20, 300, 2000)] == [10, 10, 10]
    assert copies.over(300).refresh == 30
    assert [n for n in range(8) if copies.over(8).taken(n)] == [1, 2, 3, 4, 5, 6, 7]


def test_half_a_batch_between_copies_is_refused():
    assert "2.5: a number of batches is whole" in refusal(lambda: method("method=coarse", "method.refresh=2.5"))


@pytest.mark.parametrize("refresh", [1, 2, 3, 33, 50, 64])
@pytest.mark.parametrize("travel", [0, 1, 7, 8])
def test_one_copy_is_under_way_at_a_time(refresh, travel):
    copies, waiting = method("method=coarse", f"method.refresh={refresh}", f"method.travel={travel}").copies, 0
    for n in range(600):
        waiting -= copies.taken(n)
        assert waiting >= 0
        waiting += copies.made(n)
        assert waiting <= 1


def test_a_copy_is_of_the_weights_of_travel_batches_ago():
    parts = blocks("verlet", 2)
    rule = method("method=coarse", "method.factor=1", "method.refresh=3", "method.travel=1")
    had, made = [copied(parts[1], 1)], 0
    for n in range(9):
        stages, _ = train(parts, rule, n + 1)
        made = n - 1 if rule.copies.taken(n) else made
        assert torch.equal(copied(stages[0].interface.copies.blocks[0], 1), had[made]), n
        had.append(copied(stages[1].block, 1))


@pytest.mark.parametrize("arch", STABLE)
def test_a_tuned_copy_is_more_like_its_stage_than_the_means_are(arch):
    """And so is the gradient that it is asked for, at weights that are no function of time: in the mean of a few draws,
    for of a single one the gradient may be as good as it gets."""
    before, after = torch.tensor([tuned(arch, seed) for seed in range(4)]).mean(dim=0)
    assert after[0] < 0.5 * before[0]
    assert after[1] < before[1]


def tuned(arch: str, seed: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """By how much a copy and its gradient are off, before and after it was tuned."""
    torch.manual_seed(seed)
    net = stable(16, f"arch={arch}")
    for stack in net.block.stacks():
        stack.data = stack + 0.3 * torch.randn_like(stack)
    first, second = net.cut(2)
    task, x, y = Classification(CLASSES), torch.randn(60, *SHAPE).double(), torch.arange(60) % CLASSES
    h = first(x).detach()
    output = second(h).detach()
    likeness, interface = Likeness(second, Coarsening(4)), Coarse([second], task, Coarsening(4))
    exact = Coarse([second], task, Coarsening(1)).gradient(h, y, None, 0)

    def errors() -> tuple[float, float]:
        interface.copies.take(0, likeness.numbers(second, False))
        error = (interface.gradient(h, y, None, 0) - exact).norm() / exact.norm()
        return likeness.fit(second, h, output).item(), error.item()

    before = errors()
    adam = torch.optim.Adam([p for p in likeness.parameters() if p.requires_grad], lr=0.01)
    for _ in range(50):
        adam.zero_grad()
        likeness.fit(second, h, output).backward()
        adam.step()
    assert all(p.grad is None for p in second.parameters())
    return before, errors()


def test_copies_are_tuned_on_every_so_many_batches_by_the_stage_itself():
    parts = blocks("verlet", 3)
    words = "method.factor=2", "method.step=9", "method.refresh=9"
    tuned, _ = train(parts, method("method=coarse", *words, "method.tune=3"), 4)
    means, _ = train(parts, method("method=coarse", *words, "method.tune=0"), 4)
    assert tuned[0].likeness is None
    for stage, other in zip(tuned[1:], means[1:], strict=True):
        assert any(p.abs().max() > 0 for p in stage.likeness.parameters())
        assert all(p.abs().max() == 0 for p in other.likeness.parameters())
    assert_same(bodies(tuned), bodies(means))


@pytest.mark.parametrize(
    ("n", "h", "layers"), [(8, 0.125, 2), (8, 0.25, 4), (8, 0.5, 8), (8, 2.0, 8), (3, 0.1, 1), (6, 0.2, 3)]
)
def test_no_copy_makes_longer_steps_than_allowed(n, h, layers):
    rule = Coarsening(4, 0.5)
    assert rule.layers(n, h) == layers
    assert n * h / layers <= max(0.5, h) + 1e-9


@pytest.mark.parametrize(
    ("inputs", "near", "earlier"), [("received", 0, False), ("coarse", 1, False), ("coarse", 0, True)]
)
@pytest.mark.parametrize("pause", [5, 6, 7, 8])
def test_a_run_that_is_resumed_while_a_copy_is_under_way_is_an_uninterrupted_one(inputs, near, earlier, pause):
    """Also of a checkpoint that knows of one kind of copies, as earlier ones did."""
    words = f"method.near={near}", "method.factor=2", "method.step=9", "method.refresh=4", "method.travel=2"
    rule = method("method=coarse", f"method.inputs={inputs}", *words, "method.tune=2")
    assert [rule.copies.made(n) for n in range(3, 8)] == [True, False, False, False, True]
    assert rule.copies.taken(6)
    straight, _ = train(blocks("verlet", 3), rule, 12)
    stages = make_stages(blocks("verlet", 3), SHAPE_OF_TRAINED, TASK, rule)
    serial, optimizer = Serial(stages, rule, lag=0), step_all([p for s in stages for p in s.parameters()])
    for n, (x, y) in enumerate(batches(12)):
        if n == pause:
            kept = [s.state_dict() for s in stages], optimizer.state_dict(), copy.deepcopy(serial.state_dict())
            if earlier:
                kept[2]["copies"] = {j: numbers for (j, _), numbers in kept[2]["copies"].items()}
            stages = make_stages(blocks("verlet", 3), SHAPE_OF_TRAINED, TASK, rule)
            serial, optimizer = Serial(stages, rule, lag=0), step_all([p for s in stages for p in s.parameters()])
            for stage, state in zip(stages, kept[0], strict=True):
                stage.load_state_dict(state)
            optimizer.load_state_dict(kept[1])
            serial.load_state_dict(kept[2], torch.device("cpu"))
        optimizer.zero_grad()
        serial.step(n, x, y)
        optimizer.step()
        serial.stepped()
    assert_same(stages, straight)


@pytest.mark.parametrize("near", [0, 1])
def test_norms_of_copies_begin_a_level_with_the_statistics_of_their_block(near):
    """They began with whatever lay in memory: a run ended in its ninth epoch, because a mean was not finite."""
    first, second = stable(8, "arch=verlet", "arch.norm=true").cut(2)
    second(first(torch.randn(20, *SHAPE).double()))
    copies, likeness = CopiedBlocks([second], Coarsening(2), near), Likeness(second, Coarsening(2))
    second.refine([stack.repeat_interleave(2, dim=0) for stack in second.stacks()])
    copies.deepen(0, second)
    likeness.deepen(second)
    for copy_ in (copies.blocks[0], likeness.delta):
        pairs = list(zip(copy_.buffers(), second.buffers(), strict=True))
        assert pairs
        for mine, its in pairs:
            torch.testing.assert_close(mine, restrict(its, len(mine)))


def test_under_autocast_means_over_parts_of_layers_are_those_without():
    """Copies are made where an optimizer has stepped: of 7 layers 3 were made in bfloat16, of 6 in float32."""
    θ = torch.randn(7, 4, 4)
    expected = restrict(θ, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(restrict(θ, 3), expected)
