"""Loss and score over the epochs, a panel a network, a line a method, a band a standard deviation over seeds."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from costate.reports import style
from costate.reports.groups import Group
from costate.reports.reading import Run

Figures = Iterator[tuple[str, str, Figure]]
"""File name, caption, figure."""


def draw(groups: Sequence[Group]) -> Figures:
    """The figures of each data set."""
    for data, own in by_data(groups).items():
        score = own[0].score
        yield (
            f"loss_{data}",
            f"{data}: loss on the validation rows, mean and standard deviation over seeds.",
            curves(own, "val/loss", "validation loss", log=True),
        )
        if score != "loss":
            yield (
                f"{score}_{data}",
                f"{data}: {score} on the validation rows, mean and standard deviation over seeds.",
                curves(own, f"val/{score}", f"validation {score}", log=score == "mse"),
            )


def by_data(groups: Sequence[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.label("data"), []).append(group)
    return found


def curves(groups: Sequence[Group], metric: str, label: str, log: bool) -> Figure:
    """One metric by epochs."""
    networks = list(dict.fromkeys(group.network for group in groups))[: style.MOST_PANELS]
    looks = style.look(list(dict.fromkeys(group.way for group in groups)))
    figure, axes = style.panels(networks, sharey=True)
    for place, network in zip(axes, networks, strict=True):
        for group in groups:
            if group.network == network:
                x, middle, spread = band([epochs(run, metric) for run in group.runs])
                line(place, x, middle, spread, group.way, looks[group.way], log)
        place.set_xlabel("epoch")
        place.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if log:
            style.logarithmic(place)
    for place in axes[:: style.ACROSS]:
        place.set_ylabel(label)
    style.legend(figure, axes)
    return figure


def line(
    place: Axes, x: np.ndarray, middle: np.ndarray, spread: np.ndarray, name: str, look: dict, log: bool = False
) -> None:
    """A line with its band; of marks there are a few."""
    if len(x) == 0:
        return
    place.plot(x, middle, label=name, markevery=max(1, len(x) // 6), **look)
    low = np.maximum(middle - spread, middle / 10) if log else middle - spread
    place.fill_between(x, low, middle + spread, color=look["color"], alpha=0.18, linewidth=0)


def epochs(run: Run, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """A metric that is logged once an epoch, by the epochs that are over."""
    values = np.array(run.columns[metric].values if metric in run.columns else [])
    return np.arange(1, len(values) + 1), values


def band(series: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, mean and standard deviation of curves where all of them have a value."""
    series = [(x, y) for x, y in series if len(x)]
    if not series:
        return np.empty(0), np.empty(0), np.empty(0)
    common = series[0][0]
    for x, _ in series[1:]:
        common = np.intersect1d(common, x)
    values = np.array([dict(zip(x.tolist(), y.tolist(), strict=True))[at] for x, y in series for at in common.tolist()])
    values = values.reshape(len(series), len(common))
    spread = values.std(axis=0, ddof=1) if len(series) > 1 else np.zeros(len(common))
    return common, values.mean(axis=0), spread
