"""Results against a setting: score by depth, error by stages, length solved by span, and speed over backpropagation."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from costate.reports import style
from costate.reports.curves import Figures, by_data, spread_of
from costate.reports.groups import Group, baseline
from costate.reports.table import speed_up

DEPTH, SPAN, SOLVED, STAGES = "arch.depth", "span", "solved", "stages"
COSINE = "stage/0/gradient_cosine"

Lines = dict[tuple[str, str], dict[float, Group]]
"""Groups by network and way, each named without the setting along the axis, and by that setting."""


def draw(groups: Sequence[Group]) -> Figures:
    """Score against depth where it varies, length solved against span; speed-up where there is something to compare."""
    for data, own in by_data(groups).items():
        if any(len(points) > 1 for points in lines(own, DEPTH).values()):
            caption = f"{data}: {own[0].score} on the test rows against depth{spread_of(own)}."
            yield f"depth_{data}", caption, against(own, DEPTH, "depth")
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
            caption = (
                f"{data}: test error by the number of stages{spread_of(own)}, and at the end "
                "of training the cosine of the gradient that the first stage steps on with the true one."
            )
            yield f"stages_{data}", caption, by_stages(own)


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


def against(groups: Sequence[Group], key: str, label: str, metric: str | None = None, least: int = 2) -> Figure:
    """A result by a setting, the test's score if not another one; lines of so many points at least."""
    found = {", ".join(name): points for name, points in lines(groups, key).items() if len(points) >= least}
    looks = style.look(list(found))
    figure, (place,) = style.panels([""], size=(4.2, 2.7))
    percent = 100 if groups[0].score == "accuracy" and metric is None else 1
    for name, points in found.items():
        _line(place, points, metric or f"test/{groups[0].score}", name, looks[name], percent)
    style.doubling(place, {x for points in found.values() for x in points}, label)
    place.set_ylabel(metric or f"test {groups[0].score}" + (" (%)" if percent == 100 else ""))
    style.legend(figure, [place])
    return figure


def by_stages(groups: Sequence[Group]) -> Figure:
    """A column a network: error above, below it how true the first stage's gradient was; a line a method."""
    found = lines(groups, STAGES)
    networks = list(dict.fromkeys(network for network, _ in found))[: style.ACROSS]
    looks = style.look(list(dict.fromkeys(way for _, way in found)))
    cosines = any(COSINE in group.runs[0].results for group in groups)
    figure, axes = style.table(1 + cosines, len(networks), (3.0, 2.1), sharex=True, sharey="row")
    for column, network in zip(axes.T, networks, strict=True):
        column[0].set_title(network)
        for way, look in looks.items():
            points = found.get((network, way), {})
            for group in list(points.values())[:1]:
                wrong = group.score == "accuracy"
                _line(column[0], points, f"test/{group.score}", way, look, 100 if wrong else 1, complement=wrong)
            for place in column[1:]:
                _line(place, points, COSINE, way, look)
    for place in axes[-1]:
        style.doubling(place, {x for points in found.values() for x in points}, "stages")
    style.logarithmic(axes[0, 0])
    axes[0, 0].set_ylabel("test error, %" if groups[0].score == "accuracy" else f"test {groups[0].score}")
    for place in axes[1:, 0]:
        place.set_ylabel("cosine, first stage")
    style.legend(figure, list(axes.flat))
    return figure


def _line(
    place: Axes,
    points: dict[float, Group],
    metric: str,
    name: str,
    look: dict,
    percent: int = 1,
    complement: bool = False,
) -> None:
    """A line with bars where there are several seeds; of the complement, what is missing to 1."""
    found = [(x, *points[x].statistics(metric)) for x in sorted(points)]
    rows = [(x, average, deviation or 0.0) for x, average, deviation in found if average is not None]
    if not rows:
        return
    xs, means, deviations = np.array(rows).T
    means, deviations = percent * (1 - means if complement else means), percent * deviations
    place.plot(xs, means, label=name, **look)
    known = deviations > 0
    if known.any():
        # On a logarithmic axis a bar may not reach down to 0.
        low = np.minimum(deviations, 0.9 * means) if complement else deviations
        ends = np.stack([low, deviations])[:, known]
        place.errorbar(xs[known], means[known], ends, color=look["color"], linewidth=0, elinewidth=0.8, capsize=2)


def bars(values: dict[str, float]) -> Figure:
    """A bar a group; the line at 1 is backpropagation."""
    names = list(values)[: 2 * style.MOST_PANELS][::-1]
    # Room for the names by hand.
    left, height = 0.3 + 0.065 * max(map(len, names)), 0.8 + 0.32 * len(names)
    figure = style.blank(left + 3.5, height)
    figure.set_layout_engine("none")
    place = figure.add_axes((left / (left + 3.5), 0.5 / height, 3.4 / (left + 3.5), 1 - 0.6 / height))
    place.barh(names, [values[name] for name in names], color="#0072B2", height=0.6)
    for i, name in enumerate(names):
        text, at = f"{values[name]:.2f}", (values[name], i)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        place.annotate(text, at, (4, 0), textcoords="offset points", va="center", fontsize=7, bbox=box)
    place.axvline(1, color="black", linewidth=0.8, linestyle="--")
    place.set_xlim(0, 1.15 * max(1, *values.values()))
    place.set_xlabel("speed over backpropagation in one process")
    place.grid(axis="y", visible=False)
    return figure
