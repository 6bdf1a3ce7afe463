"""How good the synthetic gradients were: cosine and relative error at each boundary over the training."""

import re
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from costate.reports import style
from costate.reports.curves import Figures, band, by_data, line
from costate.reports.groups import Group
from costate.reports.reading import Run

POINTS = 40
"""Points of a line: the median over as many parts of the run."""
QUANTITIES = {"cosine": "cosine of ĝ and g", "relative_error": "‖ĝ − g‖ / ‖g‖"}


def draw(groups: Sequence[Group]) -> Figures:
    """A figure a data set, if gradients were predicted on it."""
    for data, own in by_data(groups).items():
        predicted = [group for group in own if boundaries(group.runs[0])]
        if predicted:
            caption = f"{data}: synthetic gradients ĝ against their targets g, by boundary, first to last."
            yield f"gradients_{data}", caption, quality(predicted)


def boundaries(run: Run) -> list[int]:
    """The boundaries at which something was predicted."""
    return sorted(int(m[1]) for m in (re.fullmatch(r"boundary/(\d+)/cosine", name) for name in run.columns) if m)


def quality(groups: Sequence[Group]) -> Figure:
    """Two rows: cosine, relative error; a column a network and a method."""
    groups = groups[: style.MOST_PANELS // 2]
    figure, axes = style.table(2, len(groups), (2.4, 1.8), sharex="col", sharey="row")
    most = max(len(boundaries(group.runs[0])) for group in groups)
    colours = colormaps["viridis"](np.linspace(0, 0.85, most))
    for column, group in zip(axes.T, groups, strict=True):
        column[0].set_title(style.wrapped(f"{group.network}\n{group.way}", 2.2))
        for place, name in zip(column, QUANTITIES, strict=True):
            for i, k in enumerate(boundaries(group.runs[0])):
                x, middle, spread = band([thinned(run, f"boundary/{k}/{name}") for run in group.firsts])
                look = {"color": colours[i], "linestyle": style.DASHES[i % 5], "marker": style.MARKS[i % 7]}
                log = name == "relative_error"
                line(place, x, middle, spread, f"boundary {k}", look | {"markersize": 3}, log)
        column[0].axhline(0, color="#888888", linewidth=0.6)
        column[1].axhline(1, color="#888888", linewidth=0.6)
        column[1].set_xlabel("batch")
        # Where gradients vanish a prediction may be off by any factor.
        style.logarithmic(column[1])
    for place, label in zip(axes[:, 0], QUANTITIES.values(), strict=True):
        place.set_ylabel(label)
    style.legend(figure, list(axes.flat))
    return figure


def thinned(run: Run, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """A metric in at most POINTS points, each the median over its part of the run."""
    if metric not in run.columns:
        return np.empty(0), np.empty(0)
    steps, values = (np.array(each, dtype=float) for each in run.columns[metric])
    kept = np.isfinite(values)
    parts = np.array_split(np.arange(kept.sum()), min(POINTS, max(1, kept.sum())))
    medians = [(steps[kept][part].mean(), np.median(values[kept][part])) for part in parts if len(part)]
    x, y = np.array(medians).T if medians else (np.empty(0), np.empty(0))
    return x, y
