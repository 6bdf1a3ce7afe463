"""Networks on the plane: where they decide, how their layers move the points, and the surface that they learn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from costate.core.tasks import Classification
from costate.reports import style
from costate.reports.curves import Figures, by_data
from costate.reports.groups import Broken, Group
from costate.reports.networks import SAMPLES, Trained, load, robustness, small, spectra

POINTS, GRID, MOMENTS = 400, 160, 5
FIRST = "of the first seed"


def draw(groups: Sequence[Group], broken: list[Broken]) -> Figures:
    """The figures of each planar data set; folders whose networks cannot be rebuilt are added to `broken`."""
    for data, own in by_data([group for group in groups if group.planar]).items():
        networks, surfaces = [], []
        for group in own[: 2 * style.MOST_PANELS]:
            folder, title = group.runs[0].folder, f"{group.network}, {group.way}"
            try:
                networks.append(load(folder, title))
            except (ValueError, KeyError, OSError) as error:
                broken.append(Broken(folder, f"its network cannot be rebuilt: {error}"))
            if (folder / "surface").exists():
                surfaces.append(learned(folder, title))
        if networks:
            yield from of_one(data, networks)
        if surfaces:
            caption = f"{data}: the surface {FIRST} while it is learned, beside its target, on one scale of heights."
            yield f"learning_{data}", caption, learning(surfaces[: style.MOST_PANELS // 2])


def of_one(data: str, networks: list[Trained]) -> Figures:
    """The figures of the networks on one data set."""
    some = networks[: style.MOST_PANELS]
    if isinstance(networks[0].data.task, Classification):
        caption = f"decision regions {FIRST}, the paler the less sure; a cross is a test point on the wrong side."
        yield f"regions_{data}", f"{data}: {caption}", regions(some)
    else:
        yield f"surface_{data}", f"{data}: the surface {FIRST} beside its target, and their difference.", heights(some)
    caption = f"{data}: the test points on their way through the layers, along the two main directions of all states."
    yield f"features_{data}", caption, features(some)
    few = [network for network in some if small(network)]
    if few:
        caption = (
            f"{data}: singular values of the propagation's Jacobian P_j (mean over {SAMPLES} test points), "
            "and eigenvalues of each layer's Jacobian as those of the field, first layers dark, last ones light."
        )
        yield f"spectra_{data}", caption, spectra(few)
    output = ", and to the output" if len({network.depth for network in networks}) > 1 else ""
    caption = f"{data}: what noise at the input does to the state inside the deepest networks{output}."
    yield f"robustness_{data}", caption, robustness(networks)


def regions(networks: Sequence[Trained]) -> Figure:
    """The class that is decided on at each point, the paler the less sure; test points, crosses where it is wrong."""
    spread = networks[0].test(POINTS)[0].std(0)
    height = 0.55 + 1.4 * min(1.2, max(0.4, (spread[1] / spread[0]).item()))
    figure, axes = style.panels([n.title for n in networks], height)
    for place, network in zip(axes, networks, strict=True):
        x, y = network.test(POINTS)
        grid, extent = plane(x)
        share, decided = network(grid).softmax(1).max(1)
        picture = _paint(decided, share, network.data.task.outputs)
        place.imshow(picture, origin="lower", extent=extent, aspect="equal", interpolation="bilinear")
        wrong = network(x).argmax(1) != y
        _scatter(place, x[~wrong], y[~wrong], s=5, marker="o", edgecolors="white", linewidths=0.25)
        _scatter(place, x[wrong], y[wrong], s=22, marker="X", edgecolors="black", linewidths=0.6)
        place.set_title(style.wrapped(f"{network.title}\n{wrong.sum()} of {len(y)} wrong", style.HALF))
        style.plain(place)
    return figure


def features(networks: Sequence[Trained]) -> Figure:
    """The state at a few times, a row a network: the two directions in which all its states vary most."""
    networks = networks[: style.MOST_PANELS // 2]
    figure, axes = style.table(len(networks), MOMENTS, 0.85)
    for row, network in zip(axes, networks, strict=True):
        x, y = network.test(POINTS)
        flat = [Y.flatten(1) for Y in network.states(x)]
        # Layers of different widths have no directions in common.
        alike = len({Y.shape[1] for Y in flat}) == 1
        shown = principal(flat) if alike else [principal([Y])[0] for Y in flat]
        moments = sorted({round(i) for i in np.linspace(0, len(flat) - 1, MOMENTS)})
        for place in row[len(moments) :]:
            place.remove()
        for place, j in zip(row, moments, strict=False):
            _scatter(place, shown[j], y, s=4, linewidths=0)
            place.set_title("opening" if j == 0 else f"layer {j}")
            style.plain(place)
        row[0].set_ylabel(style.wrapped(network.title, 0.9), fontsize=7)
    return figure


def heights(networks: Sequence[Trained]) -> Figure:
    """A row a network: the target, what the network says, and the difference."""
    networks = networks[: style.MOST_PANELS // 2]
    figure, axes = style.table(len(networks), 3, 1.6, sharex=True, sharey=True)
    for row, network in zip(axes, networks, strict=True):
        x, y = network.test(4000)
        target, told = y[:, 0].numpy(), network(x)[:, 0].numpy()
        low, high = target.min(), target.max()
        worst = float(np.abs(told - target).max())
        pictures = (
            ("target", target, low, high, "viridis"),
            ("network", told, low, high, "viridis"),
            ("difference", told - target, -worst, worst, "PuOr"),
        )
        for place, (title, z, a, b, colours) in zip(row, pictures, strict=True):
            levels = np.linspace(a, b, 21)
            drawn = place.tricontourf(x[:, 0].numpy(), x[:, 1].numpy(), np.clip(z, a, b), levels=levels, cmap=colours)
            # As a picture: thousands of triangles make a file of megabytes.
            drawn.set_rasterized(True)
            place.set_title(title)
            place.set_aspect("equal")
            place.grid(False)
            if title != "target":
                # Of target and network, which have one scale, and of the difference.
                beside = list(row[:2]) if title == "network" else place
                style.colour_bar(figure, drawn, beside, most=3, location="bottom", format="%g")
    axes[0, 0].set(xticks=(-1, 0, 1), yticks=(-1, 0, 1), xlim=(-1, 1), ylim=(-1, 1))
    style.outer(axes, ["$x_1$"] * 3, [f"{style.wrapped(network.title, 0.9)}\n$x_2$" for network in networks])
    return figure


def plane(x: Float[Tensor, "n 2"]) -> tuple[Tensor, tuple[float, float, float, float]]:
    """GRID × GRID points around the given ones, row by row from below, and (left, right, bottom, top)."""
    low, high = x.min(0).values, x.max(0).values
    margin = 0.12 * (high - low)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    across, up = torch.linspace(left, right, GRID), torch.linspace(bottom, top, GRID)
    return torch.cartesian_prod(up, across).flip(1), (left, right, bottom, top)


def principal(states: Sequence[Float[Tensor, "n d"]]) -> list[Float[Tensor, "n 2"]]:
    """The states, along the two directions in which all of them together vary most."""
    joint = torch.cat(list(states))
    centre = joint.mean(0)
    if joint.shape[1] < 2:
        return [torch.cat([Y - centre, torch.zeros_like(Y)], 1) for Y in states]
    directions = torch.linalg.svd(joint - centre, full_matrices=False).Vh[:2]
    # A singular vector has no sign of its own: the largest entry is positive.
    signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    return [(Y - centre) @ (directions * signs).T for Y in states]


def _paint(decided: Tensor, share: Tensor, classes: int) -> np.ndarray:
    colours = style.CLASSES(decided.numpy() % style.CLASSES.N)[:, :3]
    # From white at a share of 1/classes to a light tint of the class.
    depth = 0.55 * ((share.numpy() - 1 / classes) / (1 - 1 / classes))[:, None]
    return (1 - depth * (1 - colours)).reshape(GRID, GRID, 3)


def _scatter(place: Axes, x: Float[Tensor, "n 2"], y: Tensor, **look: Any) -> None:
    """Points in the colour of their class, or of their target."""
    if y.is_floating_point():
        colours: Any = {"c": y[:, 0].numpy(), "cmap": "viridis"}
    else:
        colours = {"color": style.CLASSES(y.numpy() % style.CLASSES.N)}
    place.scatter(x[:, 0].numpy(), x[:, 1].numpy(), rasterized=True, **colours, **look)


class Learned(NamedTuple):
    """What a run has kept: heights of the target and, by epochs, of the network, over the same grid."""

    title: str
    target: np.ndarray
    epochs: dict[int, np.ndarray]


def learned(folder: Path, title: str) -> Learned:
    """What `callbacks.surface_pictures` has kept of a run.

    Raises:
        OSError: it has kept nothing.
    """
    kept = folder / "surface"
    epochs = {int(path.stem.rpartition("-")[2]): np.load(path) for path in sorted(kept.glob("epoch-*.npy"))}
    return Learned(title, np.load(kept / "target.npy"), epochs)


def learning(runs: Sequence[Learned]) -> Figure:
    """The target on the left, the network's epochs beside it, evenly chosen, the last one last."""
    columns = max(min(MOMENTS - 1, len(run.epochs)) for run in runs)
    figure, axes = style.table(len(runs), columns + 1, 0.9, sharex=True, sharey=True)
    low, high = runs[0].target.min(), runs[0].target.max()
    for row, run in zip(axes, runs, strict=True):
        names = sorted(run.epochs)
        chosen = sorted({names[round(i)] for i in np.linspace(0, len(names) - 1, columns)})
        pictures = [("target", run.target), *((f"epoch {epoch}", run.epochs[epoch]) for epoch in chosen)]
        for place, (title, heights) in zip(row, pictures, strict=False):
            drawn = place.imshow(heights, origin="lower", extent=(-1, 1, -1, 1), vmin=low, vmax=high, cmap="viridis")
            place.set_title(title)
            place.grid(False)
    axes[0, 0].set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    left = [f"{style.wrapped(run.title, 0.9)}\n$x_2$".lstrip() for run in runs]
    style.outer(axes, ["$x_1$"] * len(axes.T), left)
    style.colour_bar(figure, drawn, figure.axes, label="height")
    return figure
