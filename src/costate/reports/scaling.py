"""Results against a setting: score by depth, error by stages, length solved by span, and speed over backpropagation."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from costate.reports import style
from costate.reports.curves import Figures, by_data, spread_of
from costate.reports.groups import Group, baseline
from costate.reports.table import speed_up

DEPTH, SPAN, SOLVED = "arch.depth", "span", "solved"


def draw(groups: Sequence[Group]) -> Figures:
    """Score against depth and against stages where they vary; speed-up where there is something to compare with."""
    for data, own in by_data(groups).items():
        if any(len(points) > 1 for points in lines(own, DEPTH, ignore(DEPTH)).values()):
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


def ignore(key: str) -> Callable[[Group], str]:
    """A line's name: everything but the setting along the axis."""
    short = f", {key.rpartition('.')[2]}="
    return lambda g: ", ".join(f"{g.network}, {g.way}".replace(f"{short}{g.settings.get(key)}", "").split(", "))


def lines(groups: Sequence[Group], key: str, name: Callable[[Group], str]) -> dict[str, dict[float, Group]]:
    """Groups by line and by value of the setting."""
    found: dict[str, dict[float, Group]] = {}
    for group in groups:
        if isinstance(group.settings.get(key), int | float):
            found.setdefault(name(group), {})[group.settings[key]] = group
    return found


def against(groups: Sequence[Group], key: str, label: str, metric: str | None = None, least: int = 2) -> Figure:
    """A result by a setting, the test's score if not another one; lines of so many points at least."""
    found = {name: points for name, points in lines(groups, key, ignore(key)).items() if len(points) >= least}
    looks = style.look(list(found))
    figure, (place,) = style.panels([""], size=(4.2, 2.7))
    percent = 100 if groups[0].score == "accuracy" and metric is None else 1
    for name, points in found.items():
        xs = sorted(points)
        numbers = [points[x].statistics(metric or f"test/{groups[0].score}") for x in xs]
        middle = [np.nan if average is None else percent * average for average, _ in numbers]
        place.plot(xs, middle, label=name, **looks[name])
        spreads = [(x, y, percent * spread) for x, y, (_, spread) in zip(xs, middle, numbers, strict=True) if spread]
        if spreads:
            at, means, deviations = (list(column) for column in zip(*spreads, strict=True))
            place.errorbar(at, means, deviations, color=looks[name]["color"], fmt="none", capsize=2)
    place.set_xscale("log", base=2)
    ticks = sorted({x for points in found.values() for x in points})
    place.set_xticks(ticks, [f"{x:g}" for x in ticks])
    place.set_xlabel(label)
    place.set_ylabel(metric or f"test {groups[0].score}" + (" (%)" if percent == 100 else ""))
    style.legend(figure, [place])
    return figure


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


COSINE = "stage/0/gradient_cosine"


def stages(groups: Sequence[Group]) -> Figures:
    """A figure a data set, where methods were tried on several numbers of stages."""
    for data, own in by_data([group for group in groups if "stages" in group.settings]).items():
        if any(len(points) > 1 for points in cuts(own).values()):
            caption = (
                f"{data}: test error by the number of stages{spread_of(own)}, and at the end "
                "of training the cosine of the gradient that the first stage steps on with the true one."
            )
            yield f"stages_{data}", caption, by_stages(own)


def by_stages(groups: Sequence[Group]) -> Figure:
    """A column a network: error above, cosine below; a line a method."""
    networks = list(dict.fromkeys(name_of(group, "network") for group in groups))[: style.ACROSS]
    methods = list(dict.fromkeys(name_of(group, "way") for group in groups))
    looks = style.look(methods)
    cosines = any(COSINE in group.runs[0].results for group in groups)
    figure, axes = style.table(1 + cosines, len(networks), (3.0, 2.1), sharex=True, sharey="row")
    for column, network in zip(axes.T, networks, strict=True):
        column[0].set_title(network)
        for method in methods:
            own = [g for g in groups if (name_of(g, "network"), name_of(g, "way")) == (network, method)]
            score = own[0].score if own else ""
            _line(column[0], own, f"test/{score}", method, looks[method], complement=score == "accuracy")
            if cosines:
                _line(column[1], own, COSINE, method, looks[method])
    for place in axes[-1]:
        place.set_xscale("log", base=2)
        counts = sorted({int(group.settings["stages"]) for group in groups})
        place.xaxis.set_major_locator(FixedLocator(counts))
        place.xaxis.set_major_formatter(FixedFormatter([str(count) for count in counts]))
        place.xaxis.set_minor_locator(NullLocator())
        place.set_xlabel("stages")
    style.logarithmic(axes[0, 0])
    axes[0, 0].set_ylabel("test error, %" if groups[0].score == "accuracy" else f"test {groups[0].score}")
    if cosines:
        axes[1, 0].set_ylabel("cosine, first stage")
    style.legend(figure, list(axes.flat))
    return figure


def cuts(groups: Sequence[Group]) -> dict[tuple[str, str], set[int]]:
    """Numbers of stages by network and method."""
    found: dict[tuple[str, str], set[int]] = {}
    for group in groups:
        found.setdefault((name_of(group, "network"), name_of(group, "way")), set()).add(group.settings["stages"])
    return found


def name_of(group: Group, kind: str) -> str:
    """The group's network or way without its number of stages, which is the abscissa."""
    return ", ".join(word for word in getattr(group, kind).split(", ") if not word.startswith("stages="))


def _line(place: Axes, groups: Sequence[Group], name: str, label: str, look: dict, complement: bool = False) -> None:
    rows = sorted((int(g.settings["stages"]), *g.statistics(name)) for g in groups if g.statistics(name)[0] is not None)
    if not rows:
        return
    counts, means, deviations = (np.array([number or 0.0 for number in column]) for column in zip(*rows, strict=True))
    if complement:
        means, deviations = 100 * (1 - means), 100 * deviations
    place.plot(counts, means, label=label, **look)
    known = deviations > 0
    if known.any():
        # On a logarithmic axis a bar may not reach down to 0.
        low = np.minimum(deviations, 0.9 * means) if complement else deviations
        bars = np.stack([low, deviations])[:, known]
        place.errorbar(counts[known], means[known], bars, color=look["color"], linewidth=0, elinewidth=0.8, capsize=2)
