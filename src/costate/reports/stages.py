"""What a cut costs: the error by the number of stages, and below it how true the first stage's gradient was."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from costate.reports import style
from costate.reports.curves import Figures, by_data, spread_of
from costate.reports.groups import Group

COSINE = "stage/0/gradient_cosine"


def draw(groups: Sequence[Group]) -> Figures:
    """A figure a data set, where methods were tried on several numbers of stages."""
    for data, own in by_data([group for group in groups if "stages" in group.settings]).items():
        if any(len(points) > 1 for points in cuts(own).values()):
            caption = (
                f"{data}: test error by the number of stages{spread_of(own)}, and at the end "
                "of training the cosine of the gradient that the first stage steps on with the true one."
            )
            yield f"stages_{data}", caption, errors(own)


def errors(groups: Sequence[Group]) -> Figure:
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
