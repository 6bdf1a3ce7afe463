"""A step of the optimizer every a batches: what it is equal to, and what is kept in between."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from composing import method, network
from costate.core.method import Iteration, Method
from costate.core.stage import Stage
from costate.core.tasks import Classification
from costate.execution.serial import Serial
from costate.methods.late import AccumulatedStep
from costate.training.module import stages as make_stages

SHAPE, CLASSES, BATCH = (6,), 3, 10


def parts(rule: Method) -> list[Stage]:
    torch.manual_seed(0)
    net = network(SHAPE, CLASSES, "arch=verlet", "arch.depth=8", "arch.width=8", "arch.smoothness=0.01")
    return [stage.double() for stage in make_stages(net.cut(4), SHAPE, Classification(CLASSES), rule)]


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(BATCH, *SHAPE, generator=generator).double(),
            torch.randint(CLASSES, (BATCH,), generator=generator),
        )
        for _ in range(count)
    ]


def weights(stages: list[Stage]) -> list[Tensor]:
    return [p.detach() for stage in stages for p in stage.block.parameters()]


def trainer(stages: list[Stage], rule: Method, iteration: Iteration | None = None) -> Callable[..., None]:
    """Plays a batch, as a run does; not Adam, to which a sum is a mean."""
    optimizer = torch.optim.SGD([p for stage in stages for p in stage.parameters()], lr=0.1)
    whole = iteration or rule.iteration(Serial(stages, rule, lag=0))

    def play(n: int, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        whole.gradient(n, x, y, ahead=1)
        whole.advance(optimizer)

    return play


@pytest.mark.parametrize("rule", ["delayed", "replay", "petra"])
def test_accumulated_batches_are_one_batch_so_many_times_as_large(rule):
    """Where no gradient is late: their mean is the joint batch's gradient, and weights stand still in between."""
    late, exact = method(f"method={rule}", "method.delay=0", "method.accumulate=3"), method("method=backprop")
    ours, theirs, data = parts(late), parts(exact), batches(9)
    small, large = trainer(ours, late), trainer(theirs, exact)
    for n, (x, y) in enumerate(data):
        before = copy.deepcopy(weights(ours))
        small(n, x, y)
        if n % 3 < 2:
            assert all(map(torch.equal, weights(ours), before))
        else:
            large(n // 3, *(torch.cat(rows) for rows in zip(*data[n - 2 : n + 1], strict=True)))
            torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=1e-10)


def test_a_gradient_is_one_step_late_at_most_where_as_many_batches_accumulate():
    late = method("method=delayed", "method.accumulate=3")
    ours = parts(late)
    play, versions = trainer(ours, late), [0]
    for n, (x, y) in enumerate(batches(12)):
        before = copy.deepcopy(weights(ours[:1]))
        play(n, x, y)
        versions.append(versions[-1] + (not all(map(torch.equal, weights(ours[:1]), before))))
    assert versions == [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3], "the first gradient comes with batch 3"
    assert max(versions[n] - versions[n - 3] for n in range(3, 12)) == 1


def test_accumulating_one_batch_is_the_plain_step():
    late = method("method=delayed")
    ours, theirs = parts(late), parts(late)
    one, other = trainer(ours, late, AccumulatedStep(Serial(ours, late, lag=0), 1)), trainer(theirs, late)
    for n, (x, y) in enumerate(batches(9)):
        one(n, x, y)
        other(n, x, y)
    assert all(map(torch.equal, weights(ours), weights(theirs)))


def test_sums_of_another_process_are_not_kept():
    """A checkpoint of a pipeline has those of all stages, and each of its processes loads it."""
    late = method("method=delayed", "method.delay=0", "method.accumulate=3")
    whole, own = (AccumulatedStep(Serial(parts(late), late, lag=0), 3) for _ in range(2))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    for iteration in (whole, own):
        if iteration is own:
            own.load_state_dict(whole.state_dict(), torch.device("cpu"))
            assert {k for k, _ in own.sums} == {0, 1, 2, 3}
        iteration.gradient(0, *batches(1)[0], ahead=1)
        for stage in own.player.stages[1:]:
            stage.zero_grad()
        iteration.advance(optimizer)
    assert {k for k, _ in own.sums} == {0}
