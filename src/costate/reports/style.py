"""How figures look: colours and marks that print keeps apart, one size of type, PNG and SVG.

Figures are made without pyplot: nothing stays in a global, and no window is asked for.
"""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from costate.reports.groups import natural

# Okabe & Ito (2008): apart for every kind of eye; yellow is left out, paper swallows it.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MORE = ("#882255", "#332288", "#999933", "#8C564B", "#7F7F7F")
"""For figures of more lines than that, whose marks stand apart from their lines."""
MARKS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
CLASSES = ListedColormap(["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#777777"])

mpl.rc("font", size=8)
mpl.rc("axes", titlesize=8, labelsize=8, grid=True, axisbelow=True)
mpl.rc("axes.spines", top=False, right=False)
mpl.rc("xtick", labelsize=7)
mpl.rc("ytick", labelsize=7)
mpl.rc("grid", color="#e4e4e4", linewidth=0.6)
mpl.rc("lines", linewidth=1.3)
mpl.rc("legend", fontsize=7.5, frameon=False)
mpl.rc("svg", hashsalt="costate")

MOST_PANELS, ACROSS = 16, 2
COLUMN, HALF = 3.4, 1.5
"""Inches of a column of a paper, as wide is a figure, and of a panel's title where two are side by side."""


def panels(titles: Sequence[str], height: float = 1.7, **settings: Any) -> tuple[Figure, list[Axes]]:
    """A figure with a panel a title, row by row; axes are shared as `Figure.subplots` says."""
    columns = min(ACROSS, len(titles))
    figure, grid = table(-(-len(titles) // columns), columns, height, **settings)
    axes, empty = list(grid.flat)[: len(titles)], list(grid.flat)[len(titles) :]
    for place in empty:
        place.remove()
    for place, title in zip(axes, titles, strict=True):
        place.set_title(wrapped(title, COLUMN / columns - 0.4))
    for place in axes[-columns:]:
        # Shared axes have numbers in the last row alone, which may have gaps.
        place.tick_params(labelbottom=True)
    return figure, axes


def table(rows: int, columns: int, height: float, width: float = COLUMN, **settings: Any) -> tuple[Figure, np.ndarray]:
    """A figure with rows × columns panels."""
    figure = blank(width, rows * height + 0.5)
    return figure, figure.subplots(rows, columns, squeeze=False, **settings)


def outer(axes: np.ndarray, below: Sequence[str], left: Sequence[str]) -> None:
    """Names the abscissa of each column and the ordinate of each row, at the edge; empty panels are taken away."""
    for place in axes.flat:
        if not place.has_data():
            place.remove()
    for column, name in zip(axes.T, below, strict=True):
        for place in [place for place in column if place.figure][-1:]:
            place.set_xlabel(name)
            place.tick_params(labelbottom=True)
    for row, name in zip(axes, left, strict=True):
        for place in [place for place in row if place.figure][:1]:
            place.set_ylabel(name)
            place.tick_params(labelleft=True)


def blank(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One for all panels, below them, each name once; the figure grows by what it takes."""
    entries: dict[str, Any] = {}
    for place in axes:
        for handle, name in zip(*place.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    if factors(list(entries)):
        entries = factored(entries)
    if (more := len(entries) - MOST_NAMES) > 0:
        entries = dict(list(entries.items())[:MOST_NAMES]) | {f"and {more} more: see the table": Patch(alpha=0)}
    if entries:
        names = [wrapped(name, figure.get_figwidth() - 0.7) for name in entries]
        inches = 0.5 + 0.062 * max(len(part) for name in names for part in name.splitlines())
        columns = max(1, min(len(entries), int(figure.get_figwidth() / inches)))
        lines = -(-sum(name.count("\n") + 1 for name in names) // columns)
        figure.set_figheight(figure.get_figheight() + 0.16 * (lines - 1))
        figure.legend(list(entries.values()), names, loc="outside lower center", ncols=columns)


def wrapped(text: str, inches: float) -> str:
    """Over as many lines as it takes."""
    lines = (textwrap.wrap(line, max(8, int(inches / 0.07)), break_on_hyphens=False) for line in text.splitlines())
    return "\n".join(part for line in lines for part in line)


FEW, MOST_NAMES = 6, 16
"""Names up to which each has an entry of its own in a legend; entries of a legend that can be read."""


def factors(names: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """First words, and what follows them; None where that are no fewer entries than names, or these are few."""
    firsts, rests = (list(dict.fromkeys(name.partition(", ")[i] for name in names)) for i in (0, 2))
    return (firsts, rests) if len(names) > max(FEW, len(firsts) + len(rests)) else None


def factored(entries: dict[str, Any]) -> dict[str, Any]:
    """A colour for each first word, a mark and a dash for what follows it."""
    found: dict[str, dict[str, Any]] = {"first": {}, "rest": {}}
    for name, line in entries.items():
        first, _, rest = name.partition(", ")
        mark = {"marker": line.get_marker(), "linestyle": line.get_linestyle(), "markersize": 3.5}
        found["first"][first] = Line2D([], [], color=line.get_color(), linewidth=2.5)
        found["rest"][rest or "none of these"] = Line2D([], [], color="#555555", **mark)
    return found["first"] | found["rest"]


def look(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour, a mark and a dash for each line's name; backpropagation alone is black.

    Where names have factors, colours tell first words apart, marks and dashes what follows them.
    """
    if split := factors(names):
        colours, marks = (look(part) for part in split)
        pairs = ((name, *name.partition(", ")[::2]) for name in names)
        return {name: marks[rest] | {"color": colours[first]["color"]} for name, first, rest in pairs}
    ordered = sorted(names, key=lambda name: (not name.startswith("backprop"), natural(name)))
    if ordered and not ordered[0].startswith("backprop"):
        ordered = ["", *ordered]
    return {
        name: {
            "color": COLOURS[1 + (i - 1) % (len(COLOURS) - 1) if i else 0],
            # Where colours come a second time, each has another mark.
            "marker": MARKS[(i + 2 * ((i - 1) // (len(COLOURS) - 1))) % len(MARKS)],
            "linestyle": DASHES[i % len(DASHES)],
            "markersize": 3.5,
        }
        for i, name in enumerate(ordered)
    }


TICKS = {30: (1, 2, 5), 6: (1, 2, 3, 5), 4: (1, 2, 3, 4, 5, 7), 0: range(1, 10)}
"""Of an ordinate over so many times its least number and more: at these times a power of ten."""


def logarithmic(place: Axes) -> None:
    """A logarithmic ordinate: ticks at powers of ten, and where there are few of these between them, too.

    Numbers that are nearly the same stay on a linear one: they may have no power of ten among them.
    """
    place.set_yscale("log")
    low, high = place.get_ylim()
    if high / low < 2:
        place.set_yscale("linear")
        return
    place.yaxis.set_minor_locator(NullLocator())
    if high / low < 300:
        steps = next(steps for ratio, steps in TICKS.items() if high / low > ratio)
        place.yaxis.set_major_locator(LogLocator(subs=steps))
        place.yaxis.set_major_formatter(FormatStrFormatter("%g"))


def from_zero(axes: Sequence[Axes]) -> None:
    """Where no line has more than one point, an abscissa from 0 on: around a single number there is no scale."""
    xs = [np.asarray(line.get_xdata()) for place in axes for line in place.lines]
    if xs and max(map(len, xs)) == 1:
        for place in axes:
            place.set_xlim(0, 1.5 * max(float(x[0]) for x in xs))


def doubling(place: Axes, ticks: Iterable[float], label: str) -> None:
    """An abscissa on which a step is a factor of 2, with these ticks alone."""
    ticks = sorted(ticks)
    place.set_xscale("log", base=2)
    place.set_xticks(ticks, [f"{x:g}" for x in ticks])
    place.xaxis.set_minor_locator(NullLocator())
    place.set_xlabel(label)


def colour_bar(figure: Figure, drawn: Any, axes: Any, most: int = 5, **settings: Any) -> Any:
    """Beside some panels, with ticks at round numbers an equal way apart."""
    return figure.colorbar(drawn, ax=axes, shrink=0.8, ticks=MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]), **settings)


def plain(place: Axes) -> None:
    """Without ticks and grid: what matters is the picture."""
    place.set_xticks([])
    place.set_yticks([])
    place.grid(False)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """name.png and name.svg."""
    # The layout is worked out once, not once a file: it takes as long as the drawing.
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    # What a layout leaves empty around panels of a fixed shape is cut away.
    crop: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.06}
    figure.savefig(paths[0], dpi=200, **crop)
    figure.savefig(paths[1], dpi=110, metadata={"Date": None}, **crop)
    return paths
