"""One table: arch × method × data, mean ± deviation over seeds, as Markdown and LaTeX; all numbers as CSV."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from costate.reports.groups import AXES, Group, baseline, statistics, varied

Table = list[list[str]]
NUMBERS = ("seeds", "test score", "gap to backprop", "fit seconds", "speed-up")
WHERE_MEASURED = ("seconds to backprop", "peak MB", "cosine")
"""Columns that are left out where no run has the number: see `costs`."""
MANY = 4
"""Settings that differ, up to which each is a column to read."""
NEAR = {"accuracy": 0.01}
"""How near to backpropagation's best validation score is near enough; of other scores a tenth of it."""


def speed_up(group: Group, groups: Sequence[Group]) -> float | None:
    """Samples a second, over those of backpropagation in one process."""
    own, other = (g.statistics("samples_per_second")[0] if g else None for g in (group, baseline(group, groups)))
    return own / other if own and other else None


def gap(group: Group, groups: Sequence[Group]) -> float | None:
    """Test score less that of backpropagation; in points where the score is an accuracy."""
    reference = baseline(group, groups)
    own, other = (g.statistics(f"test/{group.score}")[0] if g else None for g in (group, reference))
    if own is None or other is None or reference is group:
        return None
    return (own - other) * (100 if group.score == "accuracy" else 1)


def seconds_to_backprop(group: Group, groups: Sequence[Group]) -> tuple[float | None, float | None]:
    """Of the fit, until a validation score is within a point of backpropagation's best one; infinite if none is.

    Of its seeds the worst counts, so that itself has come there with each.
    """
    reference, name = baseline(group, groups), f"val/{group.score}"
    bests = [run.results[name] for run in reference.runs if name in run.results] if reference else []
    if not bests:
        return None, None
    sign = 1 if group.score == "accuracy" else -1
    best = sign * min(sign * best for best in bests)
    bar = best - sign * NEAR.get(group.score, 0.1 * best)
    curves = [curve for run in group.runs if (curve := run.timed(name))]
    return statistics(min((t for t, s in own if sign * s >= sign * bar), default=math.inf) for own in curves)


def costs(group: Group, groups: Sequence[Group]) -> list[str]:
    """How soon it is as good as backpropagation; the most bytes held for backward passes; the cosine of the first
    stage's gradient with the true one at the end.
    """
    seconds, deviation = seconds_to_backprop(group, groups)
    peak, cosine = (group.statistics(name)[0] for name in ("peak_bytes", "stage/0/gradient_cosine"))
    return [
        "never" if seconds == math.inf else plus_minus(seconds, deviation),
        "" if peak is None else f"{peak / 1e6:.1f}",
        "" if cosine is None else f"{cosine:.3f}",
    ]


def milliseconds(group: Group) -> float | None:
    """Of a batch."""
    rate, rows = group.statistics("samples_per_second")[0], group.runs[0].rows
    return 1000 * rows / rate if rate and rows else None


def build(groups: Sequence[Group]) -> Table:
    """The header and a row a group."""
    extras = telling(groups)
    more = [costs(group, groups) for group in groups]
    kept = [i for i in range(len(WHERE_MEASURED)) if any(cells[i] for cells in more)]
    header = [*AXES, *extras, *NUMBERS, *(WHERE_MEASURED[i] for i in kept)]
    rows = zip(groups, more, strict=True)
    return [header, *([*_row(group, groups, extras), *(cells[i] for i in kept)] for group, cells in rows)]


def differing(groups: Sequence[Group]) -> list[str]:
    """The settings in which groups differ, on whatever network and data."""
    return varied([group.runs[0] for group in groups])


def telling(groups: Sequence[Group]) -> list[str]:
    """Of these; where they are many, those without which two rows would read alike."""
    kept = differing(groups)

    def apart(names: Sequence[str]) -> int:
        return len({(*map(group.label, AXES), *map(group.settings.get, names)) for group in groups})

    for name in kept[::-1] if len(kept) > MANY else ():
        fewer = [other for other in kept if other != name]
        kept = fewer if apart(fewer) == apart(kept) else kept
    return kept


def texts(table: Table) -> int:
    """How many columns in front are no numbers."""
    return table[0].index(NUMBERS[0])


def _row(group: Group, groups: Sequence[Group], extras: Sequence[str]) -> list[str]:
    percent = 100 if group.score == "accuracy" else 1
    average, deviation = group.statistics(f"test/{group.score}")
    score = plus_minus(average and average * percent, deviation and deviation * percent)
    if percent == 100 and average is not None and not deviation:
        score = f"{100 * average:.2f}"
    unit = " %" if percent == 100 else f" {group.score}"
    difference, faster = gap(group, groups), speed_up(group, groups)
    return [
        *map(group.label, AXES),
        *("" if (value := group.settings.get(key)) is None else str(value) for key in extras),
        str(len(group.seeds)) + (f" ({len(group.runs)} runs)" if len(group.runs) > len(group.seeds) else ""),
        f"{score}{unit}" if score else "",
        "" if difference is None else f"{difference:+.2f}" if percent == 100 else f"{difference:+.2g}",
        plus_minus(*group.statistics("fit_seconds")),
        "" if faster is None else f"{faster:.2f}",
    ]


def markdown(table: Table) -> str:
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def all_digits(groups: Sequence[Group]) -> str:
    """As CSV, a row a group: all settings in which they differ, mean and deviation of every number."""
    extras = differing(groups)
    results = (pair for g in groups for run in g.runs for pair in run.results.items())
    names = dict.fromkeys(k for k, v in results if isinstance(v, int | float) and not isinstance(v, bool))
    columns = [name for name in names if name not in ("seed", "epochs", "stages", *extras)]
    header = [*AXES, *extras, "seeds", "runs", "gap", "speed_up", "seconds_to_backprop", "ms_a_batch"]
    rows = []
    for g in groups:
        own = [*map(g.label, AXES), *map(g.settings.get, extras), len(g.seeds), len(g.runs)]
        costs = [gap(g, groups), speed_up(g, groups), seconds_to_backprop(g, groups)[0], milliseconds(g)]
        rows.append([*own, *costs, *(x for name in columns for x in g.statistics(name))])
    return comma_separated([*header, *(f"{name}{end}" for name in columns for end in ("", " std"))], rows)


def comma_separated(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
ESCAPES |= {character: f"\\{character}" for character in "&%$#_{}"}


def latex(table: Table) -> str:
    """A tabular with the rules of booktabs."""
    text = [["".join(ESCAPES.get(c, c) for c in cell) for cell in row] for row in table]
    left = texts(table)
    lines = [" & ".join(row) + r" \\" for row in text]
    begin = rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(table[0]) - left)}}}"
    parts = [r"% \usepackage{booktabs}", begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}", ""])


def plus_minus(average: float | None, deviation: float | None) -> str:
    """Two digits of the deviation, and as many places of the mean."""
    if average is None or not deviation:
        return "" if average is None else f"{average:.4g}"
    places = max(0, 1 - math.floor(math.log10(deviation)))
    return f"{average:.{places}f} ± {deviation:.{places}f}"
