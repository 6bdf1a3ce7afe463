"""The simulation agrees with what can be written down, where something can."""

import pytest

from costate.benchmarks.simulation import (
    Copied,
    Costs,
    Line,
    Link,
    coarse_step,
    data_parallel_step,
    decoupled_step,
    gpipe,
    one_f_one_b,
    synchronous_step,
)
from costate.core.schedules import Operation

NOTHING = Line(0.0, 0.0)
FREE = Link(0.0, float("inf"))
F, B, O, ROWS = 2e-3, 4e-3, 0.064, 64


def costs(**others) -> Costs:
    usual = {
        "forward": Line(0.0, F),
        "backward": Line(0.0, B),
        "predict": NOTHING,
        "learn": NOTHING,
        "optimizer": O,
        "weights": 0.0,
        "state": 0.0,
    }
    return Costs(**(usual | others))


@pytest.mark.parametrize("K", [1, 2, 5, 64])
def test_decoupled_stages_without_costs_of_their_own_divide_the_work(K):
    assert decoupled_step(costs(), FREE, ROWS, K) == pytest.approx(((F + B) * ROWS + O) / K)


@pytest.mark.parametrize("K", [2, 8])
def test_a_synthesizer_slows_a_decoupled_step_by_its_own_time(K):
    found = decoupled_step(costs(predict=Line(0.01, 0.0), learn=Line(0.02, 0.0)), FREE, ROWS, K)
    assert found == pytest.approx(((F + B) * ROWS + O) / K + 0.03)


def test_a_late_gradient_hides_the_link_and_one_that_is_waited_for_does_not():
    slow = Link(0.05, float("inf"))
    hidden, waited = (decoupled_step(costs(), slow, ROWS, 2, lag=lag) for lag in (1, 0))
    assert hidden == pytest.approx(((F + B) * ROWS + O) / 2)
    # forward, down the link, forward and backward behind it, up the link, and the first stage goes on
    assert waited > hidden + 0.05


@pytest.mark.parametrize("delay", [1, 2, 4])
def test_a_true_gradient_is_as_far_away_as_its_delay_has_batches_for(delay):
    """From a forward pass to the next one after its update: F, down, F and U behind, up, U, of delay + 1 batches."""
    far = Link(10.0, float("inf"))
    found = decoupled_step(costs(), far, ROWS, 2, lag=delay, window=9, waits=Operation.UPDATE)
    assert found == pytest.approx((2 * 10 + (F + (F + B) + B) * ROWS / 2) / (delay + 1), rel=0.06)


@pytest.mark.parametrize("order", [gpipe, one_f_one_b])
@pytest.mark.parametrize(("K", "m"), [(1, 1), (2, 1), (2, 4), (4, 8), (8, 8)])
def test_synchronous_schedules_have_the_bubble_of_k_minus_1_micro_batches(K, m, order):
    found = synchronous_step(costs(), FREE, ROWS, K, m, order)
    assert found == pytest.approx((m + K - 1) / m * (F + B) * ROWS / K + O / K)


@pytest.mark.parametrize(("K", "m"), [(1, 1), (2, 4), (4, 2), (4, 8)])
def test_every_micro_batch_goes_forward_and_back_once(K, m):
    for order in (gpipe, one_f_one_b):
        for k in range(K):
            work = list(order(K, m, k))
            assert sorted(work) == [(name, i) for name in "BF" for i in range(m)]
            assert all(work.index(("F", i)) < work.index(("B", i)) for i in range(m))


def test_one_forward_one_backward_holds_no_more_than_the_stages_behind_it():
    assert list(one_f_one_b(3, 4, 0)) == [
        ("F", 0), ("F", 1), ("F", 2), ("B", 0), ("F", 3), ("B", 1), ("B", 2), ("B", 3),
    ]  # fmt: skip
    assert list(one_f_one_b(3, 4, 2))[:4] == [("F", 0), ("B", 0), ("F", 1), ("B", 1)]


def test_replicas_pay_for_their_ring():
    link = Link(1e-3, 1e9)
    found = data_parallel_step(costs(weights=4e6), link, ROWS, 4)
    # In two buckets, of 1 MiB and of the rest.
    assert found == pytest.approx((F + B) * ROWS / 4 + 6 * (2 * 1e-3 + 1e6 / 1e9) + O)
    both = decoupled_step(costs(weights=4e6), link, ROWS, 2, R=4)
    assert both == pytest.approx(((F + B) * ROWS / 4 + O) / 2 + 6 * (1e-3 + 0.5e6 / 1e9))


def test_messages_of_a_link_leave_one_after_the_other():
    """Four under way at once do not make a link four times as fast."""
    narrow = Link(0.0, 1e6)
    assert decoupled_step(costs(state=1e6), narrow, ROWS, 2, lag=4, window=4) == pytest.approx(ROWS, rel=0.01)
    # Torch sends one micro-batch and makes room for another together: there is word of room behind what is sent.
    assert synchronous_step(costs(state=1e6), narrow, ROWS, 2, 4) == pytest.approx(8 / 4 * ROWS, rel=0.05)
    found = synchronous_step(costs(state=1e6), narrow, ROWS, 2, 4, expected=True)
    assert found == pytest.approx(5 / 4 * ROWS, rel=0.05), "the last micro-batch of four comes back a quarter later"


def test_stages_that_send_little_and_wait_for_nobody_do_not_mind_a_link():
    poor = Link(0.1, 1e5)
    found = decoupled_step(costs(state=1e6), poor, ROWS, 2, sizes=(1e3, 1e3), waits=None)
    assert found == pytest.approx(((F + B) * ROWS + O) / 2)


def test_with_copies_the_busiest_stage_sets_the_pace_and_each_answers_for_all_that_is_behind():
    """Opening, layers and answer of the first; layers, tuning and copies of others; the last has no answer to make."""
    cheap = {"tune": 4.0, "every": 4, "made": 2.0, "taken": 3.0, "refresh": 10, "optimizer": 12.0, "state": 1e6}
    copied = Copied((5.0, 1.0), (7.0, 2.0), Line(1.0, 0.5), **cheap)
    first = 5 + 7 + 3 * 2 + (1 + 0.5 * 4) + 12 * 2 / 12 + 3 * 4 / 10
    middle = 3 * 4 + (1 + 0.5 * 2) + 1 * 4 + 12 * 4 / 12 + (3 * 2 + 2 * 4) / 10
    last = 3 * 6 + 1 * 6 + 12 * 6 / 12 + 2 * 6 / 10
    assert coarse_step(copied, FREE, (2, 4, 6), (2, 2, 2)) == pytest.approx(max(first, middle, last))
    assert coarse_step(copied, FREE, (12,), (3,)) == pytest.approx(5 + 7 + 3 * 12 + 12)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_over_a_far_link_as_many_states_travel_in_a_round_trip_as_there_is_room_for(window):
    """There is word of room when a state is taken, and a state of ten seconds comes a way later."""
    link = Link(50.0, 1e5)
    found = decoupled_step(costs(state=1e6), link, ROWS, 2, sizes=(1e6, 0.0), waits=None, window=window)
    assert found == pytest.approx((2 * 50 + 10) / window, rel=0.01)
    many = decoupled_step(costs(state=1e6), link, ROWS, 64, sizes=(1e6, 0.0), waits=None, window=window)
    assert many == pytest.approx(found), "each waits for its neighbour alone"
