"""What every process does when: traces of runs one below the other on one clock, so that a lock is seen as gaps."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from costate.reports import style
from costate.reports.curves import Figures, by_data
from costate.reports.groups import Group

COLOURS = {"forward": "#56B4E9", "update": "#D55E00"}
OTHER = "#999999"
BATCHES = 4
"""How many of the slowest run are seen."""


class Piece(NamedTuple):
    """Work on a batch, in seconds from the beginning of the trace."""

    name: str
    batch: int
    start: float
    end: float


class Trace(NamedTuple):
    """The work of each process, by its name; what is not there is waiting."""

    processes: dict[str, list[Piece]]

    @property
    def updates(self) -> list[Piece]:
        """Those of the process that is named first, in order."""
        first = self.processes[min(self.processes)]
        return sorted((piece for piece in first if piece.name == "update"), key=lambda piece: piece.start)

    @property
    def pace(self) -> float:
        """Seconds from an update to the next one, in the median."""
        return median(b.start - a.start for a, b in pairwise(self.updates))

    def middle(self, length: float) -> float:
        """The end of the update at the middle of the trace, or earlier where less than so many seconds are left."""
        ends = [piece.end for piece in self.updates]
        return max(0.0, min(ends[len(ends) // 2], ends[-1] - length))


def read(path: Path) -> Trace:
    """A run's trace.json."""
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    names = {event["pid"]: event["args"]["name"].split(", ")[-1] for event in events if event["ph"] == "M"}
    processes: dict[str, list[Piece]] = {name: [] for name in names.values()}
    for event in events:
        if event["ph"] == "X" and event["cat"] == "work":
            start, end = 1e-6 * event["ts"], 1e-6 * (event["ts"] + event["dur"])
            processes[names[event["pid"]]].append(Piece(event["name"], event["args"]["batch"], start, end))
    return Trace(processes)


def draw(groups: Sequence[Group]) -> Figures:
    """A figure a data set, where runs have traces."""
    for data, own in by_data(groups).items():
        files = ((group.way, group.runs[0].folder / "trace.json") for group in own)
        traces = {way: read(file) for way, file in files if file.exists()}
        traces = {way: trace for way, trace in traces.items() if len(trace.updates) > 1}
        if traces:
            caption = f"{data}: what each process does when; where nothing is drawn it waits."
            yield f"timeline_{data}", caption, timeline(traces)


def timeline(traces: dict[str, Trace]) -> Figure:
    """A panel a trace, each from the middle of its run on, all as long as some batches of the slowest."""
    length = BATCHES * max(trace.pace for trace in traces.values())
    rows = max(len(trace.processes) for trace in traces.values())
    figure, axes = style.table(len(traces), 1, 0.4 + 0.2 * rows, sharex=True)
    for place, (name, trace) in zip(axes[:, 0], traces.items(), strict=True):
        begin = trace.middle(length)
        processes = sorted(trace.processes.items())
        worked = sum(_row(place, i, own, begin, length) for i, (_, own) in enumerate(processes))
        share = 100 * worked / (length * len(processes))
        batches = sum(begin < piece.end <= begin + length for piece in trace.updates)
        place.set_title(f"{name}: {batches} batches, at work {share:.0f} % of the time", loc="left")
        place.set_yticks(range(len(processes)), [process for process, _ in processes])
        place.set_ylim(len(processes) - 0.4, -0.6)
        place.grid(False)
    axes[-1, 0].set_xlim(0, length)
    axes[-1, 0].set_xlabel("seconds")
    marks = [Patch(color=colour, label=name) for name, colour in {**COLOURS, "send, learn": OTHER}.items()]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    return figure


def _row(place: Axes, row: int, pieces: Sequence[Piece], begin: float, length: float) -> float:
    """Draws one process; returns the seconds of the window for which it works."""
    worked = 0.0
    for piece in pieces:
        start, end = max(piece.start - begin, 0.0), min(piece.end - begin, length)
        if end > start:
            worked += end - start
            place.barh(row, end - start, left=start, color=COLOURS.get(piece.name, OTHER), height=0.8, linewidth=0)
    return worked
