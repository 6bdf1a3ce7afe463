"""Pictures of a surface while it is learned."""

import numpy as np
import pytest

from costate.data.planar import surface
from costate.reports import curves, networks, planar
from costate.reports.groups import find, grouped
from running import QUIET, fit, refusal

pytest.importorskip("matplotlib")
RUN = ("data=surface", "data.train=64", "data.batch_size=16", "data.validation=20", "data.test=60", *QUIET)
PICTURES = ("callbacks=surface_pictures", "callbacks.surface_pictures.every=2")
NETWORK = ("arch=mlp", "arch.widths=[6,4]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for method in ("backprop", "sg"):
        fit(folder / method, *RUN, *PICTURES, *NETWORK, f"method={method}", "epochs=3")
    return folder


def test_heights_are_kept_every_few_epochs_and_at_the_end(runs):
    learned = planar.learned(runs / "sg", "sg")
    assert sorted(learned.epochs) == [2, 3]
    assert not np.array_equal(learned.epochs[2], learned.epochs[3])
    assert (runs / "sg" / "surface.png").stat().st_size > 1000


def test_rows_of_the_grid_run_upwards_and_columns_to_the_right(runs):
    import torch

    target = planar.learned(runs / "sg", "").target
    n = len(target)
    for i, j in ((0, 0), (0, n - 1), (n - 1, 0), (5, 40)):
        point = torch.tensor([[-1 + 2 * j / (n - 1), -1 + 2 * i / (n - 1)]], dtype=torch.float64)
        assert target[i, j] == pytest.approx(surface(point).item(), abs=1e-5)


def test_a_report_puts_the_methods_side_by_side_on_one_scale(runs):
    assert "learning_surface" in [name for name, _, _ in planar.draw(grouped(find([runs])[0]), [])]
    figure = planar.learning([planar.learned(runs / method, method) for method in ("backprop", "sg")])
    images = [image for axes in figure.axes for image in axes.images]
    assert len(images) == 2 * 3, "a target and two epochs each"
    assert len({image.get_clim() for image in images}) == 1
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["−1", "0", "1"]
    assert [first.get_ylabel(), figure.axes[3].get_xlabel()] == ["backprop\n$x_2$", "$x_1$"]


def test_layers_that_change_their_width_have_no_eigenvalues_and_no_panel_for_them(runs):
    """Their panel was empty."""
    figure = networks.spectra([networks.load(runs / method) for method in ("backprop", "sg")])
    assert [place.get_ylabel() for place in figure.axes] == ["singular values of $P_j$"] * 2


def test_networks_with_eigenvalues_and_without_have_one_figure(runs, tmp_path):
    """The colour bar asked for room beside the panel that had been taken away, and there was no report."""
    steps = fit(tmp_path / "steps", *RUN, "arch=leapfrog", "arch.width=4", "arch.depth=2", "epochs=1")
    figure = networks.spectra([networks.load(folder) for folder in (runs / "sg", steps.path)])
    assert len(figure.axes) == 3 + 1, "three panels and a colour bar"


def test_what_is_no_accuracy_is_drawn_once(runs):
    """The loss of a regression and its mean squared error were two pictures of the same."""
    drawn = [name for name, _, _ in curves.draw(grouped(find([runs])[0]))]
    assert drawn == ["mse_surface", "cost_surface"]


def test_other_data_are_refused(tmp_path):
    assert "data=surface" in refusal(tmp_path, "data=ellipse", "data.train=96", "epochs=1", *QUIET, *PICTURES)
