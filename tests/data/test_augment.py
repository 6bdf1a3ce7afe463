"""Pictures are changed each in its own way, and the same way wherever and whenever a batch is seen."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F

from costate.data.augment import Augmentation, change
from costate.data.batches import Loader, Rows, Shuffled, reading

KINDS = ["flip", "crop", "flip_crop", "trivial", "randaugment"]


def pictures(rows: int = 24) -> torch.Tensor:
    return torch.randint(1, 256, (rows, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()


def loader(kind: str, rows: int = 24) -> Loader:
    x = pictures(rows)
    return reading(Rows(x, torch.arange(rows)), Shuffled(rows, 8, 5), lambda x: x, Augmentation(change(kind), 5))


@pytest.mark.parametrize(
    ("kind", "mirrors", "moves"), [("flip", True, False), ("crop", False, True), ("flip_crop", True, True)]
)
def test_each_picture_is_a_window_of_its_own_mirrored_or_not(kind, mirrors, moves):
    x = pictures(64)
    found = Augmentation(change(kind), 0)(x, 0, 0)
    padded = F.pad(x, [2] * 4)
    seen = set()
    for picture, source in zip(found, padded, strict=True):
        ways = [
            (mirrored, i, j)
            for mirrored, whole in ((False, source), (True, source.flip(-1)))
            for i, j in itertools.product(range(5), range(5))
            if torch.equal(picture, whole[:, i : i + 16, j : j + 16])
        ]
        assert len(ways) == 1
        seen.add(ways[0])
    assert {mirrored for mirrored, _, _ in seen} == ({False, True} if "flip" in kind else {False})
    assert {i for _, i, _ in seen} == {j for _, _, j in seen} == (set(range(5)) if "crop" in kind else {2})


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_changed_as_its_number_and_seed_say_and_nothing_else(kind):
    x, state = pictures(), torch.get_rng_state()
    one, before = Augmentation(change(kind), 3), pictures()
    assert torch.equal(one(x, 2, 7), one(x, 2, 7))
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert one(x, 2, 7).dtype == torch.uint8
    for epoch, batch, seed in ((3, 7, 3), (2, 8, 3), (2, 7, 4)):
        assert not torch.equal(one(x, 2, 7), Augmentation(change(kind), seed)(x, epoch, batch))
    shares = [Augmentation(change(kind), 3, r, 3)(x[r::3], 2, 7) for r in range(3)]
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), one(x, 2, 7)), "three ranks see what one process sees"


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_that_goes_on_in_the_middle_of_an_epoch_sees_the_rest(kind):
    whole, first, second = loader(kind), loader(kind), loader(kind)
    for each in (whole, first):
        each.set_epoch(1)
    batches = list(whole)
    passing = iter(first)
    next(passing)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    rest = list(second)
    assert len(rest) == len(batches) - 1
    for (x, y), (a, b) in zip(rest, batches[1:], strict=True):
        assert torch.equal(x, a)
        assert torch.equal(y, b)


def test_none_is_none():
    assert change("none") is None
