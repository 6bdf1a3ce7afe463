"""Runs of train.py whose gradients are on their way when something happens: the end of an epoch, a resume, a level."""

import pytest

from running import QUIET, SMALL, differences, fit, last

RUN = (*SMALL, *QUIET, "stages=4", "annealing=constant", "callbacks=none", "method.delay=2")


@pytest.mark.parametrize("method", ["delayed", "petra"])
def test_gradients_go_on_over_the_end_of_an_epoch_and_through_a_checkpoint(tmp_path, method):
    run = (*RUN, f"method={method}")
    straight = fit(tmp_path / "straight", *run, "epochs=3")
    twice = fit(tmp_path / "twice", *run, "epochs=2")
    flights = [sorted(kept) for kept in last(twice)["execution"]["flights"]]
    assert flights == [[*range(6, 12)], [*range(8, 12)], [10, 11], []], "stage k of 4 waits for 2 (3 - k) batches"
    fit(twice.path, f"resume={twice.path}", "epochs=3")
    skip = (".callbacks", ".hyper_parameters", ".loops")
    assert [key for key in differences(last(twice), last(straight)) if not key.startswith(skip)] == []


def test_a_sum_of_gradients_goes_on_over_the_end_of_an_epoch_and_through_a_checkpoint(tmp_path):
    """An epoch has 6 batches, and the optimizer steps every 4."""
    run = (*RUN, "method=delayed", "method.accumulate=4", "method.delay=1")
    straight = fit(tmp_path / "straight", *run, "epochs=3")
    once = fit(tmp_path / "once", *run, "epochs=1")
    assert {k for k, _ in last(once)["iteration"]["sums"]} == {0, 1, 2, 3}
    fit(once.path, f"resume={once.path}", "epochs=3")
    skip = (".callbacks", ".hyper_parameters", ".loops")
    assert [key for key in differences(last(once), last(straight)) if not key.startswith(skip)] == []


@pytest.mark.parametrize(("method", "coarse"), [("delayed", "sg"), ("petra", "backprop"), ("replay", "sg")])
def test_levels_begin_without_the_gradients_of_the_coarser_one(tmp_path, method, coarse):
    words = ("levels=double", "levels.depths=[2,4]", f"levels.coarse_method={coarse}", "epochs=2", "stages=2")
    folder = fit(tmp_path, *RUN, *words, f"method={method}")
    pending = last(folder)["execution"]
    assert [sorted(kept) for kept in pending["flights"]] == [[10, 11], []]
    assert folder.results()["level/1/depth"] == 4
