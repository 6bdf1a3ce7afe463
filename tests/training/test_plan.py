"""The plan of a multilevel run: depths, epochs and rates of its levels, and what cannot be planned."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hydra.utils import instantiate

from composing import config
from costate.methods.backprop import Backprop
from costate.methods.late import Delayed
from costate.training.levels import Doubling, OneLevel, Plan
from costate.training.optimizers import Cosine
from small import STABLE

DEFAULTS: dict[str, Any] = {
    "count": 3,
    "depths": None,
    "epochs": None,
    "lr": None,
    "anneal": "run",
    "prolong": "copy",
    "coarse_method": "backprop",
}


def plan(
    depth: int | None = 16,
    stages: int = 2,
    epochs: int = 15,
    lr: float = 0.002,
    balance: list[int] | None = None,
    T: float | None = None,
    **settings: Any,
) -> Plan:
    return Doubling(**{**DEFAULTS, **settings}).plan(depth, stages, epochs, lr, balance, T)


def test_depths_double_up_to_the_network_s():
    assert [level.depth for level in plan(32).levels] == [8, 16, 32]
    assert [level.depth for level in plan(32, count=1).levels] == [32]
    listed = plan(depths=[8, 16], balance=[3, 1])
    assert [level.depth for level in listed.levels] == [8, 16]
    assert listed.start == {"depth": 8}
    assert listed.settings["arch"] == {"depth": 16}


@pytest.mark.parametrize("arch", STABLE)
@pytest.mark.parametrize("levels", ["null", "1", "3"])
def test_levels_begin_where_a_step_resolves_the_equation(arch, levels):
    """As conf/ has it, h = T / depth ≤ ½ on all levels, two at least; a number that is given holds."""
    cfg = config("levels=double", f"arch={arch}", f"levels.count={levels}")
    made = instantiate(cfg.levels, _convert_="all").plan(cfg.arch.depth, 2, 30, 0.002, None, cfg.arch.T)
    depths = [level.depth for level in made.levels]
    assert levels == "null" or len(depths) == int(levels)
    assert levels != "null" or (len(depths) >= 2 and cfg.arch.T / depths[0] <= 0.5)


def test_there_are_as_many_levels_as_the_step_allows_up_to_three():
    found = {T: [level.depth for level in plan(32, T=T, count=None).levels] for T in (None, 4.0, 4.1, 8.0, 8.1, 16.0)}
    assert found == {
        **{None: [8, 16, 32], 4.0: [8, 16, 32]},
        **{4.1: [16, 32], 8.0: [16, 32]},
        **{8.1: [32, 64], 16.0: [32, 64]},
    }
    assert [level.depth for level in plan(10, T=1.0, count=None, balance=[3, 2]).levels] == [5, 10]
    assert [level.depth for level in plan(7, stages=1, T=1.0, count=None).levels] == [7, 14], "half of it is not whole"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_each_level_has_four_times_the_epochs_of_the_one_before_and_they_add_up(count):
    for epochs in range(count, 80):
        each = [level.epochs for level in plan(64, epochs=epochs, count=count).levels]
        assert sum(each) == epochs
        assert min(each) >= 1
        assert all(b >= 4 * a for a, b in pairwise(each)) or epochs < 2 * 4 ** (count - 1)


@pytest.mark.parametrize(("epochs", "listed"), [(99, [6, 4, 2]), (12, [6, 4])])
def test_listed_epochs_are_those_of_all_levels_or_of_all_but_the_last(epochs, listed):
    found = Doubling(**{**DEFAULTS, "epochs": listed}).plan(16, 2, epochs, 0.002)
    assert [level.epochs for level in found.levels] == [6, 4, 2]
    assert found.settings["epochs"] == 12
    again = Doubling(**{**DEFAULTS, **found.settings["levels"]}).plan(16, 2, 20, 0.002)
    assert [level.epochs for level in again.levels] == [6, 4, 10], (
        "a run that goes on has more epochs of its last level"
    )


def test_an_epoch_s_level():
    made = Doubling(**{**DEFAULTS, "epochs": [2, 1, 3]}).plan(16, 2, 1, 0.002)
    assert [made.at(epoch) for epoch in range(8)] == [0, 0, 1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(("coarse_method", "exact"), [("backprop", Backprop), ("delayed", Delayed), ("sg", type(None))])
def test_gradients_are_true_on_all_levels_but_the_last(coarse_method, exact):
    found = plan(coarse_method=coarse_method)
    assert [type(level.exact) for level in found.levels] == [exact, exact, type(None)]


@pytest.mark.parametrize("batches", [1, 7, 429])
def test_each_level_anneals_over_its_own_steps(batches):
    """factor at step n is the level's rate times the annealing of a run that is the level alone, to the last digits."""
    each, epochs, rates = Cosine(warmup=0.1, floor=0.0), [9, 4, 2], [0.002, 0.001, 0.004]
    made = Doubling(**{**DEFAULTS, "epochs": epochs, "lr": rates, "anneal": "level"}).plan(16, 2, 1, 0.002)
    annealing, steps, n = made.annealing(each), 15 * batches, 0
    for own, rate in zip(epochs, rates, strict=True):
        for i in range(own * batches):
            expected = rate / 0.002 * each.factor(i / (own * batches))
            assert math.isclose(annealing.factor(n / steps), expected, rel_tol=1e-9, abs_tol=1e-12), (n, i)
            n += 1
    assert annealing.factor(1.0) == pytest.approx(2 * each.factor(1.0))


def test_the_rate_anneals_over_the_whole_run_unless_told_otherwise():
    """Full rates on each level anew cost sg 2 to 4 points on MNIST: its gradients are poor behind a doubling."""
    each, rates = Cosine(warmup=0.1, floor=0.0), [0.002, 0.001, 0.004]
    made = Doubling(**{**DEFAULTS, "epochs": [9, 4, 2], "lr": rates}).plan(16, 2, 1, 0.002)
    factors = [made.annealing(each).factor(n / 15) / each.factor(n / 15) for n in range(1, 15)]
    assert factors == pytest.approx([1.0] * 8 + [0.5] * 4 + [2.0] * 2)


def test_one_level_changes_nothing():
    made = OneLevel().plan(None, 3, 5, 0.1)
    assert (made.start, made.settings, made.at(4), made.at(99)) == ({}, {}, 0, 0)
    annealing, each = made.annealing(Cosine(warmup=0.1, floor=0.0)), Cosine(warmup=0.1, floor=0.0)
    assert all(annealing.factor(n / 77) == each.factor(n / 77) for n in range(78)), "bit for bit"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"depth": None}, f"levels=double needs layers that are steps in time: choose arch={' or '.join(STABLE)}, "),
        (
            {"count": None, "T": 8.5},
            "levels=double finds no depth to begin with: arch.depth=16 has a time step above 0.5 with ",
        ),
        ({"depth": 12, "count": 4}, "levels.count=4 halves arch.depth=12 3 times, which needs a multiple of 8: "),
        ({"depths": [8, 12]}, "levels.depths=[8,12]: each depth must be twice the one before."),
        ({"depths": [8, 32]}, "levels.depths=[8,32]: each depth must be twice the one before."),
        ({"depths": []}, "levels.depths=[]: each depth must be twice the one before."),
        ({"epochs": 2}, "epochs=2 is less than one for each of 3 levels: raise epochs."),
        ({"stages": 3}, "stages=3 does not divide the 4 layers of the coarsest level, so that stages would not be cut"),
        ({"balance": [2, 1]}, "balance=[2,1] does not cut the 4 layers of the coarsest level: choose other sizes."),
        ({"stages": 8}, "stages=8 is more than the 4 layers of the coarsest level: lower stages or begin deeper."),
    ],
)
def test_what_cannot_be_planned_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the sentence is looked at below)
        plan(**settings)
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("listed", "sentence"),
    [
        ({"epochs": [3]}, "levels.epochs=[3] has 1 number for 3 levels."),
        ({"epochs": [3, 2, 1, 1]}, "levels.epochs=[3,2,1,1] has 4 numbers for 3 levels."),
        ({"epochs": [9, 6]}, "levels.epochs=[9,6] leaves none of epochs=15 to the last level: raise epochs."),
        ({"lr": [0.1, 0.01]}, "levels.lr=[0.1,0.01] has 2 numbers for 3 levels."),
    ],
)
def test_lists_that_do_not_go_with_the_levels_are_refused(listed, sentence):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Doubling(**{**DEFAULTS, **listed}).plan(16, 2, 15, 0.002)
    assert str(error.value) == sentence
