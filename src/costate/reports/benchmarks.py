"""Figures of the benchmarks: ways to train on two processes, predicted on many, and over links.

A way keeps its colour and its mark over all panels of a figure.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from costate.reports import style

OURS, OTHERS = "#0b6e99", "#9aa5ad"
MARKERS = "osD^v"
SERIAL = "serial backprop"


def speed_ups(results: dict[str, Any]) -> Figure:
    """Bars of the speed-up over backpropagation on one thread, a panel for each network; decoupled ways in colour."""
    figure, panels = style.table(len(results), 1, 2.7)
    for axes, found in zip(panels[:, 0], results.values(), strict=True):
        rows = {name: row["speed-up"] for name, row in found["rows"].items()}
        names = list(rows)[::-1]
        ours = [name.startswith("pipeline") and "backprop" not in name for name in names]
        colours = [OURS if own else OTHERS for own in ours]
        bars = axes.barh(names, [rows[name] for name in names], color=colours)
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xlim(0, max(2.1, 1.12 * max(rows.values())))
        axes.set_title(style.wrapped(found["name"], style.HALF), loc="left")
        axes.grid(False)
    axes.set_xlabel("batches a second, over backprop\non one thread (two cores: at most 2)")
    return figure


def throughput(found: dict[str, Any]) -> Figure:
    """Samples a second against processes for each way, and of R × K grids of decoupled stages."""
    figure, (left, right) = style.panels(["samples a second", "of decoupled stages"], 1.9)
    for marker, (name, line) in zip(MARKERS, found["samples_per_second"].items(), strict=False):
        counts = [int(K) for K in line]
        left.plot(counts, list(line.values()), marker=marker, markersize=4, label=name)
    style.logarithmic(left)
    style.doubling(left, counts, "processes")
    left.set_ylabel("predicted")
    grid = np.full((len(counts), len(counts)), np.nan)
    for key, value in found["grid"].items():
        R, K = map(int, key.split("x"))
        grid[counts.index(R), counts.index(K)] = value
    image = right.imshow(grid, origin="lower", cmap="viridis")
    right.set_xticks(range(len(counts)), [str(K) for K in counts])
    right.set_yticks(range(len(counts)), [str(R) for R in counts])
    right.set_xlabel("stages K")
    right.set_ylabel("replicas R")
    right.grid(False)
    style.colour_bar(figure, image, right, most=3)
    figure.suptitle(found["name"], fontsize=8)
    style.legend(figure, [left])
    return figure


def check(found: dict[str, Any]) -> Figure:
    """Predicted and measured milliseconds a batch on two processes."""
    rows = found["check"][::-1]
    figure, ((axes,),) = style.table(1, 1, 0.4 * len(rows))
    places = np.arange(len(rows))
    for shift, key, colour in ((0.2, "predicted", OURS), (-0.2, "measured", OTHERS)):
        bars = axes.barh(places + shift, [row[key] for row in rows], 0.38, label=key, color=colour)
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
    axes.set_yticks(places, [row["name"].replace(", ", "\n") for row in rows])
    axes.set_xlabel("ms a batch")
    axes.margins(x=0.12)
    axes.grid(False)
    style.legend(figure, [axes])
    return figure


def links(result: dict[str, Any]) -> Figure:
    """Samples a second of two hosts against rate and against round trip: marks measured, dashed lines predicted."""
    kinds = {"rate": "rate of the link, Mb/s", "trip": "round trip, ms"}
    known = {key: label for key, label in kinds.items() if any(link[key] for link in result["links"].values())}
    kinds = known or {"rate": "no limit"}
    figure, places = style.panels([""] * len(kinds), height=2.3, sharey=True)
    looks = _looks(result)
    for place, (key, label) in zip(places, kinds.items(), strict=True):
        names = [name for name, link in result["links"].items() if link[key]]
        at = [result["links"][name][key] for name in names]
        for way, row in result["measured"]["no limit"].items():
            if way == SERIAL:
                place.axhline(row["per_second"], color=looks[way]["color"], linewidth=0.8, linestyle=":", label=way)
                continue
            found = [result["measured"][name].get(way, row)["per_second"] for name in names]
            guess = [result["links"][name]["predicted"][way] for name in names]
            place.plot(at, found, label=way, linestyle="", **looks[way])
            place.plot(at, guess, color=looks[way]["color"], linewidth=0.9, linestyle="--")
        place.set_xscale("log")
        place.set_xticks(at, [f"{x:g}" for x in at])
        place.minorticks_off()
        place.set_xlabel(label)
    _finish(figure, places)
    return figure


def many(result: dict[str, Any], counts: Sequence[int]) -> Figure:
    """Predicted for more hosts, a panel a link; what was measured has a mark, at two hosts."""
    figure, places = style.panels(list(result["links"]), sharex=True, sharey=True)
    looks = _looks(result)
    for place, (name, link) in zip(places, result["links"].items(), strict=True):
        for way, line in link["many"].items():
            place.plot(counts, [line[str(K)] for K in counts], "--", color=looks[way]["color"], linewidth=0.9)
            place.plot([2], [result["measured"][name][way]["per_second"]], label=way, linestyle="", **looks[way])
        style.doubling(place, counts, "hosts" if place in places[-style.ACROSS :] else "")
    _finish(figure, places)
    return figure


def _looks(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Mark of each way, and a colour that is no other's: a dashed line has no mark."""
    looks = style.look(list(result["measured"]["no limit"]))
    more = iter(style.MORE)
    found: dict[str, dict[str, Any]] = {}
    for way, look in looks.items():
        taken = [each["color"] for each in found.values()]
        colour = next(more) if look["color"] in taken else look["color"]
        found[way] = {"marker": look["marker"], "color": colour, "markersize": 4}
    return found


def _finish(figure: Figure, places: Sequence[Axes]) -> None:
    """One ordinate and one legend, which says what is measured and what is not."""
    style.logarithmic(places[0])
    places[0].set_ylabel("samples a second")
    places[0].plot([], [], "ko", markersize=4, label="measured, two hosts")
    places[0].plot([], [], "k--", linewidth=0.9, label="predicted")
    style.legend(figure, places[:1])
