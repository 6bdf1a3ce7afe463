"""What is logged on the way: loss and score over the epochs, and how good synthetic gradients were at each boundary.

A panel a network, a line a method; a band is a standard deviation over seeds.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from costate.reports import style
from costate.reports.groups import Group, Run

Figures = Iterator[tuple[str, str, Figure]]
"""File name, caption, figure."""
Series = tuple[np.ndarray, np.ndarray]
SATURATED = 0.9
"""An accuracy from which on errors are drawn, on a logarithmic axis: between 98 and 99 % half of the errors go."""
POINTS = 40
"""Points of a line over batches: the median over as many parts of the run."""
QUANTITIES = {"cosine": "cosine of ĝ and g", "relative_error": "‖ĝ − g‖ / ‖g‖"}


def draw(groups: Sequence[Group]) -> Figures:
    """The figures of each data set."""
    for data, own in by_data(groups).items():
        score, spread = own[0].score, spread_of(own)
        # What is no accuracy is the loss in another unit.
        name = "loss" if score == "accuracy" else score
        caption = f"{data}: {name} on the validation rows{spread}."
        yield f"{name}_{data}", caption, curves(own, partial(epochs, metric=f"val/{name}"), f"validation {name}", True)
        caption = f"{data}: the same loss by the samples that have been trained on, and by the seconds of the fit."
        if (figure := costs(own)) is not None:
            yield f"cost_{data}", caption, figure
        wrong = errors(own) if score == "accuracy" else None
        if wrong is not None:
            caption = f"{data}: error on the validation rows{spread}; without any error a line is at the lower edge."
            yield f"error_{data}", caption, curves(own, wrong, "validation error, %", log=True)
        elif score == "accuracy":
            caption = f"{data}: accuracy on the validation rows{spread}."
            read = partial(epochs, metric="val/accuracy")
            yield f"accuracy_{data}", caption, curves(own, read, "validation accuracy", log=False)


def spread_of(groups: Sequence[Group]) -> str:
    """What a caption says of bands and bars, where there are any."""
    return ", mean and standard deviation over seeds" if any(len(group.seeds) > 1 for group in groups) else ""


def by_data(groups: Sequence[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.label("data"), []).append(group)
    return found


def curves(groups: Sequence[Group], read: Callable[[Run], Series], label: str, log: bool) -> Figure:
    """One number by epochs.

    Args:
        read: of a run: epochs, and the number.
    """
    networks = list(dict.fromkeys(group.network for group in groups))[: style.MOST_PANELS]
    looks = style.look(list(dict.fromkeys(group.way for group in groups)))
    figure, axes = style.panels(networks, sharey=True)
    for place, network in zip(axes, networks, strict=True):
        for group in groups:
            if group.network == network:
                line(place, *band([read(run) for run in group.firsts]), group.way, looks[group.way], log)
        place.set_xlabel("epoch")
        place.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        style.from_zero([place])
        if log:
            style.logarithmic(place)
    for place in axes[:: style.ACROSS]:
        place.set_ylabel(label)
    style.legend(figure, axes)
    return figure


def costs(groups: Sequence[Group]) -> Figure | None:
    """A row a network: the validation loss by samples and by seconds; None where neither is known."""
    networks = list(dict.fromkeys(group.network for group in groups))[: style.MOST_PANELS // 2]
    looks = style.look(list(dict.fromkeys(group.way for group in groups)))
    kinds = {"samples trained on": samples, "seconds of the fit": seconds}
    known = {name: read for name, read in kinds.items() if any(len(read(run)[0]) for g in groups for run in g.firsts)}
    if not known:
        return None
    figure, axes = style.table(len(networks), len(known), 1.7, sharey=True, sharex="col")
    for row, network in zip(axes, networks, strict=True):
        for place, read in zip(row, known.values(), strict=True):
            for group in groups:
                if group.network == network:
                    line(place, *along([read(run) for run in group.firsts]), group.way, looks[group.way], log=True)
            place.xaxis.set_major_locator(MaxNLocator(nbins=3))
        row[0].set_title(style.wrapped(network, style.HALF), loc="left")
    style.logarithmic(axes[0, 0])
    for column in axes.T:
        style.from_zero(list(column))
    style.outer(axes, list(known), ["validation loss"] * len(axes))
    style.legend(figure, list(axes.flat))
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


def epochs(run: Run, metric: str) -> Series:
    """A metric that is logged once an epoch, by the epochs that are over."""
    values = np.array(run.columns[metric].values if metric in run.columns else [])
    return np.arange(1, len(values) + 1), values


def errors(groups: Sequence[Group]) -> Callable[[Run], Series] | None:
    """How to read validation errors in percent; None where accuracies do not saturate, or nothing is ever wrong."""
    scores = [epochs(run, "val/accuracy")[1] for group in groups for run in group.runs]
    known = np.concatenate([np.empty(0), *scores])
    if not len(known) or known.max() < SATURATED or (known == 1).all():
        return None
    # A logarithmic axis has no 0.
    least = 100 * (1 - known[known < 1].max()) / 2

    def read(run: Run) -> Series:
        x, y = epochs(run, "val/accuracy")
        return x, np.maximum(100 * (1 - y), least)

    return read


def samples(run: Run) -> Series:
    """The validation loss by the rows of all batches so far."""
    column = run.columns.get("val/loss")
    if column is None or run.rows is None:
        return np.empty(0), np.empty(0)
    return run.rows * np.array(column.steps), np.array(column.values)


def seconds(run: Run) -> Series:
    """The validation loss by the seconds of the fit."""
    x, y = np.array(run.timed("val/loss")).reshape(-1, 2).T
    return x, y


def along(series: Sequence[Series]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean abscissa, mean and standard deviation of curves, point by point as far as all of them go."""
    length = min((len(x) for x, _ in series), default=0)
    xs, ys = (np.array([pair[i][:length] for pair in series]) for i in (0, 1))
    return xs.mean(axis=0), ys.mean(axis=0), deviation(ys)


def band(series: Sequence[Series]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, mean and standard deviation of curves where all of them have a value."""
    series = [(x, y) for x, y in series if len(x)]
    if not series:
        return np.empty(0), np.empty(0), np.empty(0)
    common = series[0][0]
    for x, _ in series[1:]:
        common = np.intersect1d(common, x)
    values = np.array([y[np.isin(x, common)] for x, y in series])
    return common, values.mean(axis=0), deviation(values)


def deviation(values: np.ndarray) -> np.ndarray:
    """Sample standard deviation over rows; of one row 0."""
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])


def gradients(groups: Sequence[Group]) -> Figures:
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
    """Cosine and relative error, a row a network and a method."""
    groups = groups[: style.MOST_PANELS // 2]
    figure, axes = style.table(len(groups), 2, 1.5, sharex="row", sharey="col")
    most = max(len(boundaries(group.runs[0])) for group in groups)
    colours = colormaps["viridis"](np.linspace(0, 0.85, most))
    for row, group in zip(axes, groups, strict=True):
        row[0].set_title(style.wrapped(f"{group.network}, {group.way}", style.HALF), loc="left")
        for place, name in zip(row, QUANTITIES, strict=True):
            for i, k in enumerate(boundaries(group.runs[0])):
                look = {"color": colours[i], "linestyle": style.DASHES[i % 5], "marker": style.MARKS[i % 7]}
                found = band([thinned(run, f"boundary/{k}/{name}") for run in group.firsts])
                line(place, *found, f"boundary {k}", look | {"markersize": 3}, log=name == "relative_error")
            place.set_ylabel(QUANTITIES[name])
        row[0].axhline(0, color="#888888", linewidth=0.6)
        row[1].axhline(1, color="#888888", linewidth=0.6)
        # Where gradients vanish a prediction may be off by any factor.
        style.logarithmic(row[1])
    for place in axes[-1]:
        place.set_xlabel("batch")
    style.legend(figure, list(axes.flat))
    return figure


def thinned(run: Run, metric: str) -> Series:
    """A metric in at most POINTS points, each the median over its part of the run."""
    steps, values = np.array(run.columns.get(metric, ((), ())), dtype=float)
    kept = np.isfinite(values)
    parts = np.array_split(np.flatnonzero(kept), min(POINTS, max(1, kept.sum())))
    medians = [(steps[part].mean(), np.median(values[part])) for part in parts if len(part)]
    x, y = np.array(medians).reshape(-1, 2).T
    return x, y
