"""Results against a setting: score by depth, error by stages, length solved by span, and speed over backpropagation."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from costate.reports import style
from costate.reports.curves import Figures, by_data, spread_of
from costate.reports.groups import Group, baseline
from costate.reports.table import speed_up

DEPTH, SPAN, SOLVED, STAGES = "arch.depth", "span", "solved", "stages"
COSINE, ACCURACY = "stage/0/gradient_cosine", "test/accuracy"

Lines = dict[tuple[str, str], dict[float, Group]]
"""Groups by network and way, each named without the setting along the axis, and by that setting."""


def draw(groups: Sequence[Group]) -> Figures:
    """Score against depth where it varies, length solved against span; speed-up where there is something to compare."""
    for data, own in by_data(groups).items():
        if any(len(points) > 1 for points in lines(own, DEPTH).values()):
            caption = f"{data}: {own[0].score} on the test rows against depth{spread_of(own)}."
            yield f"depth_{data}", caption, against(own, DEPTH, "depth", f"test/{own[0].score}")
        grown = [group for group in own if SOLVED in group.runs[0].results and SPAN in group.settings]
        if grown:
            caption = f"{data}: the greatest length that was solved, against the span{spread_of(grown)}."
            yield f"solved_{data}", caption, against(grown, SPAN, "span (steps)", SOLVED, least=1)
        others = [g for g in own if baseline(g, groups) is not g]
        fast = {f"{g.network}, {g.way}": speed for g in others if (speed := speed_up(g, groups))}
        if fast:
            caption = f"{data}: samples a second, over those of backpropagation in one process on the same network."
            yield f"speed_{data}", caption, bars(fast)


def stages(groups: Sequence[Group]) -> Figures:
    """A figure a data set, where methods were tried on several numbers of stages."""
    for data, own in by_data([group for group in groups if STAGES in group.settings]).items():
        if any(len(points) > 1 for points in lines(own, STAGES).values()):
            caption = f"{data}: test error by the number of stages{spread_of(own)}"
            if cosines(own):
                caption += "; below, the cosine of the first stage's gradient with the true one, at the end"
            yield f"stages_{data}", f"{caption}.", by_stages(own)


def cosines(groups: Sequence[Group]) -> bool:
    """Whether runs say how true the first stage's gradient was: those with `callbacks=gradient_cosine` do."""
    return any(COSINE in group.runs[0].results for group in groups)


def lines(groups: Sequence[Group], key: str) -> Lines:
    found: Lines = {}
    for group in groups:
        value = group.settings.get(key)
        if isinstance(value, int | float):
            own = f"{key.rpartition('.')[2]}={value}"
            network, way = (
                ", ".join(word for word in text.split(", ") if word != own) for text in (group.network, group.way)
            )
            found.setdefault((network, way), {})[value] = group
    return found


def against(groups: Sequence[Group], key: str, label: str, metric: str, least: int = 2) -> Figure:
    """A result by a setting; lines of so many points at least."""
    found = {", ".join(name): points for name, points in lines(groups, key).items() if len(points) >= least}
    looks = style.look(list(found))
    figure, (place,) = style.panels([""], 2.2)
    for name, points in found.items():
        _line(place, points, metric, name, looks[name])
    style.doubling(place, {x for points in found.values() for x in points}, label)
    place.set_ylabel("test accuracy (%)" if metric == ACCURACY else metric.replace("/", " "))
    if metric == SOLVED:
        place.set_ylabel("longest length solved")
        place.yaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend(figure, [place])
    return figure


def by_stages(groups: Sequence[Group]) -> Figure:
    """A column a network: error above, below it how true the first stage's gradient was; a line a method.

    Backpropagation on one number of stages is a line across, as it is the same on any.
    """
    found = lines(groups, STAGES)
    # A network that was cut in one way alone has nothing to be seen here.
    several = dict.fromkeys(network for (network, _), points in found.items() if len(points) > 1)
    networks = list(several)[: 2 * style.ACROSS]
    looks = style.look(list(dict.fromkeys(way for network, way in found if network in networks)))
    counts = sorted({x for (_, way), points in found.items() for x in points if len(points) > 1})
    metric = f"test/{groups[0].score}"
    # More networks than two take two columns of a paper.
    width = style.COLUMN * (1 + (len(networks) > style.ACROSS))
    figure, axes = style.table(1 + cosines(groups), len(networks), 1.9, width, sharex=True, sharey="row")
    for column, network in zip(axes.T, networks, strict=True):
        column[0].set_title(style.wrapped(network, style.HALF))
        for way, look in looks.items():
            points = found.get((network, way), {})
            if way.startswith("backprop") and len(points) == 1:
                points = dict.fromkeys(counts, *points.values())
            _line(column[0], points, metric, way, look, error=metric == ACCURACY)
            for place in column[1:]:
                _line(place, points, COSINE, way, look)
        style.doubling(column[0], counts, "")
    style.logarithmic(axes[0, 0])
    label = "test error, %" if metric == ACCURACY else metric.replace("/", " ")
    style.outer(axes, ["stages"] * len(networks), [label, "cosine, first stage"][: len(axes)])
    style.legend(figure, list(axes.flat))
    return figure


def _line(place: Axes, points: dict[float, Group], metric: str, name: str, look: dict, error: bool = False) -> None:
    """A line with bars where there are several seeds, accuracies in percent; as an error, what is missing to 1."""
    found = [(x, *points[x].statistics(metric)) for x in sorted(points)]
    rows = [(x, average, deviation or 0.0) for x, average, deviation in found if average is not None]
    if not rows:
        return
    xs, means, deviations = np.array(rows).T
    percent = 100 if metric == ACCURACY else 1
    means, deviations = percent * (1 - means if error else means), percent * deviations
    place.plot(xs, means, label=name, **look)
    known = deviations > 0
    if known.any():
        # On a logarithmic axis a bar may not reach down to 0.
        low = np.minimum(deviations, 0.9 * means) if error else deviations
        ends = np.stack([low, deviations])[:, known]
        place.errorbar(xs[known], means[known], ends, color=look["color"], linewidth=0, elinewidth=0.8, capsize=2)


def bars(values: dict[str, float]) -> Figure:
    """A bar a group; the line at 1 is backpropagation."""
    some = dict(list(values.items())[: 2 * style.MOST_PANELS][::-1])
    names = [style.wrapped(name, style.HALF) for name in some]
    figure = style.blank(style.COLUMN, 0.6 + 0.15 * sum(1.4 + name.count("\n") for name in names))
    place = figure.subplots()
    drawn = place.barh(names, list(some.values()), color="#0072B2", height=0.6)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    place.bar_label(drawn, fmt="%.2f", padding=4, fontsize=7, bbox=box)
    place.axvline(1, color="black", linewidth=0.8, linestyle="--")
    place.set_xlim(0, 1.2 * max(1, *some.values()))
    place.set_xlabel("speed over backprop in one process")
    place.grid(axis="y", visible=False)
    return figure
