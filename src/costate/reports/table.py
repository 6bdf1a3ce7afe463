"""One table: arch × method × data, mean ± standard deviation over seeds, as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from costate.reports.groups import AXES, Group, baseline
from costate.reports.numbers import plus_minus

Table = list[list[str]]
NUMBERS = ("seeds", "test score", "gap to backprop", "fit seconds", "speed-up", "parameters")


def speed_up(group: Group, groups: Sequence[Group]) -> float | None:
    """Samples a second, over those of backpropagation in one process."""
    reference = baseline(group, groups)
    own, other = (g.statistics("samples_per_second")[0] if g else None for g in (group, reference))
    return own / other if own and other else None


def gap(group: Group, groups: Sequence[Group]) -> float | None:
    """Test score less that of backpropagation; in points where the score is an accuracy."""
    reference = baseline(group, groups)
    own, other = (g.statistics(f"test/{group.score}")[0] if g else None for g in (group, reference))
    if own is None or other is None or reference is group:
        return None
    return (own - other) * (100 if group.score == "accuracy" else 1)


def build(groups: Sequence[Group]) -> Table:
    """The header and a row a group."""
    extras = list(dict.fromkeys(key for group in groups for key in group.extras))
    return [[*AXES, *extras, *NUMBERS], *(_row(group, groups, extras) for group in groups)]


def _row(group: Group, groups: Sequence[Group], extras: Sequence[str]) -> list[str]:
    percent = 100 if group.score == "accuracy" else 1
    average, deviation = group.statistics(f"test/{group.score}")
    score = plus_minus(average and average * percent, deviation and deviation * percent)
    unit = " %" if percent == 100 else f" {group.score}"
    difference, faster = gap(group, groups), speed_up(group, groups)
    return [
        *map(group.label, AXES),
        *(_value(group.settings.get(key)) for key in extras),
        str(len(group.runs)),
        f"{score}{unit}" if score else "",
        "" if difference is None else f"{difference:+.2f}" if percent == 100 else f"{difference:+.2g}",
        plus_minus(*group.statistics("fit_seconds")),
        "" if faster is None else f"{faster:.2f}",
        f"{group.runs[0].results['parameters']:,}" if "parameters" in group.runs[0].results else "",
    ]


def _value(value: Any) -> str:
    return "" if value is None else str(value)


def markdown(table: Table) -> str:
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def comma_separated(groups: Sequence[Group]) -> str:
    """With all digits: a row a group, mean and deviation of every number."""
    extras = list(dict.fromkeys(key for group in groups for key in group.extras))
    names = dict.fromkeys(k for g in groups for run in g.runs for k, v in run.results.items() if _is_number(v))
    columns = [name for name in names if name not in ("seed", "epochs", "stages", *extras)]
    header = [*AXES, *extras, "seeds", "gap", "speed_up", *(f"{name}{end}" for name in columns for end in ("", " std"))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for g in groups:
        values = [x for name in columns for x in g.statistics(name)]
        own = [*map(g.label, AXES), *map(g.settings.get, extras), len(g.runs)]
        writer.writerow([*own, gap(g, groups), speed_up(g, groups), *values])
    return text.getvalue()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
ESCAPES |= {character: f"\\{character}" for character in "&%$#_{}"}


def latex(table: Table) -> str:
    """A tabular with the rules of booktabs."""
    text = [["".join(ESCAPES.get(c, c) for c in cell) for cell in row] for row in table]
    left = len(table[0]) - len(NUMBERS)
    lines = [" & ".join(row) + r" \\" for row in text]
    begin = rf"\begin{{tabular}}{{{'l' * left}{'r' * len(NUMBERS)}}}"
    parts = [r"% \usepackage{booktabs}", begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}", ""])
