"""What a network takes for what: a matrix of classes as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from costate.reports import style

MOST = 20
"""Classes whose names and numbers find room."""


def draw(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Rows of each class by what they were taken for, as shares of the class.

    Args:
        counts: (class, prediction).
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(2.6, 0.36 * min(len(classes), MOST) + 1.2)
    figure = style.blank(side + 0.6, side)
    place = figure.subplots()
    drawn = place.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    place.set_xlabel("prediction")
    place.set_ylabel("class")
    place.grid(False)
    if len(classes) <= MOST:
        place.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
        place.set_yticks(range(len(classes)), classes)
        for (i, j), share in np.ndenumerate(shares):
            if counts[i, j]:
                colour = "white" if share > 0.5 else "black"
                place.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=6.5)
    figure.colorbar(drawn, ax=place, shrink=0.8, label="share of the class")
    return figure
