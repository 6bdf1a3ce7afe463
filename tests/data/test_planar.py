"""The planar sets are the published geometry, drawn by a seed, divided into disjoint parts."""

import math

import numpy as np
import pytest
import torch

from costate.data.batches import generator
from costate.data.planar import Ellipse, Peaks, Surface, SwissRoll, peaks

SETS = [Ellipse, SwissRoll, Peaks, Surface]


def made(kind, seed=0, shuffle_seed=0, sizes=(300, 60, 200)):
    train, validation, test = sizes
    data = kind(train=train, validation=validation, test=test, batch_size=20, seed=seed, shuffle_seed=shuffle_seed)
    data.setup()
    return data


def whole(data):
    return torch.cat([part.x for part in data.parts]), torch.cat([part.y for part in data.parts])


def polar(x, flat=1.0):
    a, b = x[:, 0].double(), x[:, 1].double() / flat
    return torch.hypot(a, b), torch.atan2(b, a)


@pytest.mark.parametrize("kind", SETS)
def test_no_point_is_in_two_parts(kind):
    data = made(kind)
    assert [len(part.y) for part in data.parts] == [300, 60, 200]
    points = {tuple(point) for part in data.parts for point in part.x.tolist()}
    assert len(points) == 560


@pytest.mark.parametrize("kind", SETS)
def test_points_depend_on_the_seed_and_not_on_the_shuffling(kind):
    x, y = whole(made(kind))
    torch.manual_seed(5)
    same, labels = whole(made(kind, shuffle_seed=7))
    assert torch.equal(x, same)
    assert torch.equal(y, labels)
    assert not torch.equal(x, whole(made(kind, seed=1))[0])


@pytest.mark.parametrize(("kind", "classes"), [(Ellipse, 2), (SwissRoll, 2), (Peaks, 5)])
def test_classes_have_equally_many_points(kind, classes):
    _, y = whole(made(kind))
    assert torch.bincount(y).tolist() == [560 // classes] * classes


def test_ellipses_are_concentric_with_a_gap():
    x, y = whole(made(Ellipse))
    r, _ = polar(x, flat=0.4)
    for label, low, high in ((0, 0, 0.9), (1, 1.1, 2)):
        ring = r[y == label]
        assert low - 1e-6 <= ring.min() < low + 0.05
        assert high - 0.05 < ring.max() <= high + 1e-6


def test_the_rolls_are_two_spirals_of_two_turns():
    x, y = whole(made(SwissRoll))
    r, theta = polar(x)
    t = r - 0.2 * y
    assert torch.allclose(t.sort().values, torch.linspace(0, 1, 560, dtype=torch.float64), atol=1e-6)
    away = r > 1e-3  # the angle of the origin is anything
    turn = ((theta - 4 * math.pi * t) / (2 * math.pi))[away]
    assert torch.allclose(turn, turn.round(), atol=1e-4)


@pytest.mark.parametrize(
    ("point", "height"),
    # z at the origin, at the three peaks and the deepest pit, as MATLAB's documentation and optimisers give them
    [
        ((0, 0), 8 / (3 * math.e)),
        ((-0.0093, 1.5814), 8.1062),
        ((1.2857, -0.0048), 3.5925),
        ((-0.4600, -0.6292), 3.7766),
        ((0.2283, -1.6255), -6.5511),
    ],
)
def test_peaks_has_its_known_heights(point, height):
    assert peaks(torch.tensor([point], dtype=torch.float64)).item() == pytest.approx(height, abs=2e-4)


def test_classes_of_peaks_are_equal_intervals_of_height():
    x, y = whole(made(Peaks))
    low, high = -6.551, 8.106  # of the grid, to three digits
    level = (peaks(x.double()) - low) / (high - low) * 5
    distance = torch.maximum(y - level, level - (y + 1))
    assert distance.max() < 1e-3
    assert x.abs().max() <= 3


def test_the_surface_is_the_published_formula():
    data = made(Surface)
    x, z = (part.double().numpy() for part in whole(data))
    assert z.shape == (560, 1)
    assert np.abs(x).max() <= 1
    assert np.allclose(x.mean(0), 0, atol=0.1)
    assert np.allclose(x.var(0), 1 / 3, atol=0.04)  # of the uniform distribution on [-1, 1]
    for (a, b), (height,) in zip(x, z, strict=True):
        r, theta = (a**2 + b**2) ** 0.5, np.arctan2(b, a)
        k = 0.3 * (np.sin(theta) + 1)
        first = k * np.sin(4 * r**2 - r / 4)
        second = (1 - k) / 2 * np.sin(2 * theta) * np.sin(theta)
        third = (1 - k) / 2 * np.cos(6 * (theta + 0.1))
        assert height == pytest.approx(first + second + third, abs=1e-6)


@pytest.mark.parametrize("kind", [Ellipse, SwissRoll])
def test_the_nearest_training_point_tells_the_class(kind):
    data = made(kind, sizes=(1000, 20, 1000))
    nearest = torch.cdist(data.parts.test.x, data.parts.train.x).argmin(1)
    assert (data.parts.train.y[nearest] == data.parts.test.y).double().mean() >= 0.99


@pytest.mark.parametrize("n", [1, 4, 7, 23])
def test_peaks_shares_out_any_number_of_points_among_its_classes(n):
    x, y = made(Peaks).points(n, generator(0))
    assert x.shape == (n, 2)
    counts = torch.bincount(y, minlength=5)
    assert counts.max() - counts.min() <= 1
