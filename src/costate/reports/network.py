"""Figures of training over links: throughput against rate and round trip, measured and predicted, and many hosts."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from costate.reports import style

SERIAL = "serial backprop"


def links(result: dict[str, Any]) -> Figure:
    """Samples a second of two hosts against rate and against round trip: marks measured, dashed lines predicted."""
    figure, places = style.panels(["rate of the link", "round trip"], size=(4.2, 3.4), sharey=True)
    looks = style.look(list(result["measured"]["no limit"]))
    for place, key, label in zip(places, ("rate", "trip"), ("Mb/s", "ms"), strict=True):
        names = [name for name, link in result["links"].items() if link[key]]
        at = [result["links"][name][key] for name in names]
        for way, row in result["measured"]["no limit"].items():
            own, look = row["per_second"], looks[way]
            found = [result["measured"][name].get(way, {"per_second": own})["per_second"] for name in names]
            guess = [result["links"][name]["predicted"][way] for name in names]
            marks = {"marker": look["marker"], "linestyle": "", "color": look["color"], "markersize": 4}
            if way == SERIAL:
                place.axhline(own, color=look["color"], linewidth=0.8, linestyle=":", label=way)
                continue
            place.plot(at, found, label=way, **marks)
            place.plot(at, guess, color=look["color"], linewidth=0.9, linestyle="--")
        _axes(place, label)
        place.set_xticks(at, [f"{x:g}" for x in at])
    places[0].set_ylabel("samples a second")
    kinds = [Line2D([], [], color="black", marker="o", linestyle="", label="measured, two hosts")]
    kinds.append(Line2D([], [], color="black", linestyle="--", label="predicted"))
    places[1].legend(handles=kinds, loc="lower left")
    style.legend(figure, places[:1])
    return figure


def many(result: dict[str, Any], counts: Sequence[int]) -> Figure:
    """Predicted for more hosts, a panel a link; what was measured has a mark, at two hosts."""
    figure, places = style.panels(list(result["links"]), size=(2.6, 2.2), sharex=True, sharey=True)
    looks = style.look(list(result["measured"]["no limit"]))
    for place, (name, link) in zip(places, result["links"].items(), strict=True):
        for way, line in link["many"].items():
            look = looks[way]
            place.plot(counts, [line[str(K)] for K in counts], "--", color=look["color"], linewidth=0.9)
            found = result["measured"][name][way]["per_second"]
            place.plot([2], [found], look["marker"], color=look["color"], markersize=4, label=way)
        _axes(place, "hosts (marks: measured, lines: predicted)")
        place.set_xscale("log", base=2)
        place.set_xticks(counts, [str(K) for K in counts])
    style.legend(figure, places[:1])
    return figure


def _axes(place: Axes, label: str) -> None:
    place.set_xscale("log")
    place.set_yscale("log")
    place.set_xlabel(label)
    place.minorticks_off()
