"""While tests run, what does not fit its annotation is refused: by shape and by type, of functions and dataclasses."""

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import TypeCheckError

from costate.benchmarks.simulation import Link
from costate.core.tasks import Classification


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: Classification(3).loss(torch.zeros(3, 3), torch.zeros(4, dtype=torch.long)), TypeCheckError),
        (lambda: Classification(3).loss(torch.zeros(3, 3).long(), torch.zeros(3).long()), TypeCheckError),
        (lambda: Link(0.1, 1e6).all_reduce(1e6, "two"), BeartypeCallHintParamViolation),
        (lambda: Link("late", 1e6), BeartypeCallHintParamViolation),
    ],
    ids=["shapes that differ", "kind of numbers", "no count", "of a dataclass"],
)
def test_what_does_not_fit_is_refused(wrong, error):
    with pytest.raises(error):
        wrong()
