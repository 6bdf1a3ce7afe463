"""balance=work: the busiest stage has the least work that any cut leaves it."""

from itertools import combinations, pairwise

import pytest
import torch

from composing import method, network
from costate.core.tasks import Classification, Regression
from costate.training.balance import by_work, partition, work

TASK = Classification(10)


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_cut_has_a_less_busy_stage(stages, seed):
    random = torch.Generator().manual_seed(seed)
    layers, behind = (torch.randint(1, 50, (8,), generator=random).tolist() for _ in range(2))

    def busiest(ends):
        return max(sum(layers[a:b]) + (behind[b - 1] if b < 8 else 0) for a, b in pairwise([0, *ends, 8]))

    least = min(busiest(ends) for ends in combinations(range(1, 8), stages - 1))
    sizes = partition(layers, behind[:7], stages)
    assert len(sizes) == stages
    assert sum(sizes) == 8
    assert busiest([sum(sizes[: k + 1]) for k in range(stages - 1)]) == least


def test_work_is_what_the_equations_say():
    """Verlet, width d: a layer has two products of d², each with two on the way back, in a copy with one."""
    d, rows, factor = 8, 4, 2
    net = network((d,), 10, "arch=verlet", "arch.depth=6", f"arch.width={d}")
    layers, interfaces = work(
        net.block, method("method=coarse", f"method.factor={factor}", "method.step=9"), (d,), TASK
    )
    product = 2 * rows * d * d
    assert layers[2] == 2 * 3 * product
    head = 2 * rows * d * 10
    assert interfaces[1] == 2 * 2 * 2 * product + 2 * head
    near = method("method=coarse", f"method.factor={factor}", "method.step=9", "method.near=1")
    assert work(net.block, near, (d,), TASK, 2)[1][1] == 2 * (2 + 1) * 2 * product + 2 * head


def test_coarse_copies_leave_the_first_stage_fewer_layers_and_none_changes_nothing():
    net = network((1, 8, 8), 10, "arch=resnet", "arch.depth=32", "arch.width=8")
    coarse = by_work(net, method("method=coarse"), 4, (1, 8, 8), TASK)
    assert sum(coarse) == 32
    assert coarse == sorted(coarse)
    assert coarse[0] < coarse[-1]
    assert by_work(net, method("method=none"), 1, (1, 8, 8), TASK) == [32]


@pytest.mark.parametrize("rule", ["sg", "greedy", "critic", "backprop", "petra", "feedback"])
def test_it_draws_no_random_numbers_and_leaves_the_network_alone(rule):
    net = network((5,), 2, "arch=verlet", "arch.depth=4", "arch.width=6")
    state, before = torch.random.get_rng_state(), [p.clone() for p in net.parameters()]
    by_work(net, method(f"method={rule}"), 2, (5,), Regression(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(map(torch.equal, before, net.parameters()))
    assert all(p.grad is None for p in net.parameters())
