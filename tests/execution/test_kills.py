"""Runs that are ended at random moments resume to the numbers of the run left alone: a few of `tests/kills.py`."""

import pytest

from kills import MODES, kills


@pytest.mark.thorough
@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_is_killed_at_any_moment_resumes_to_the_same_numbers(tmp_path, mode):
    assert [line for line, faults in kills(tmp_path, mode, count=3, seed=0) if faults] == []
