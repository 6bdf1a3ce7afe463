"""A surface while it is learned: the target, and the network at a few epochs; a row a run, all on the same scale."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from costate.reports import style

MOMENTS = 5


class Learned(NamedTuple):
    """What a run has kept: heights of the target and, by epochs, of the network, over the same grid."""

    title: str
    target: np.ndarray
    epochs: dict[int, np.ndarray]


def read(folder: Path, title: str) -> Learned:
    """What `callbacks.surface_pictures` has kept of a run.

    Raises:
        OSError: it has kept nothing.
    """
    kept = folder / "surface"
    epochs = {int(path.stem.rpartition("-")[2]): np.load(path) for path in sorted(kept.glob("epoch-*.npy"))}
    return Learned(title, np.load(kept / "target.npy"), epochs)


def draw(runs: Sequence[Learned]) -> Figure:
    """The target on the left, the network's epochs beside it, evenly chosen, the last one last."""
    columns = max(min(MOMENTS, len(run.epochs)) for run in runs)
    figure, axes = style.table(len(runs), columns + 1, (1.5, 1.55))
    low, high = runs[0].target.min(), runs[0].target.max()
    for row, run in zip(axes, runs, strict=True):
        names = sorted(run.epochs)
        chosen = sorted({names[round(i)] for i in np.linspace(0, len(names) - 1, columns)})
        pictures = [("target", run.target), *((f"epoch {epoch}", run.epochs[epoch]) for epoch in chosen)]
        for place, (title, heights) in zip(row, pictures, strict=False):
            drawn = place.imshow(heights, origin="lower", extent=(-1, 1, -1, 1), vmin=low, vmax=high, cmap="viridis")
            place.set_title(title)
            style.plain(place)
        for place in row[len(pictures) :]:
            place.remove()
        row[0].set_ylabel(run.title.replace(", ", ",\n"))
    style.colour_bar(figure, drawn, [place for place in axes.flat if place.figure is not None])
    return figure
