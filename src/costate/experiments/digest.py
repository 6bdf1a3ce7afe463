"""The short form of RESULTS.md, a line an experiment, between two marks in docs/results.md."""

from collections.abc import Sequence
from pathlib import Path

from costate.experiments.headers import Experiment
from costate.experiments.table import Results, expected, goodness, markdown, missed, score

BEGIN, END = "<!-- experiments: written by make experiments -->\n", "<!-- end of experiments -->\n"


def short(experiments: Sequence[Experiment], results: Results) -> str:
    """What each one answers to, must reach and has reached; of several rows, the worst mean and the best.

    Where some of the rows have a mark and some have none, the means are of those that have one.
    """
    lines = []
    for experiment in experiments:
        marks = dict.fromkeys(expected(row.mark) for row in experiment.rows if row.mark)
        misses = sum(bool(missed(row, results)) for row in experiment.rows)
        verdict = f" **{misses} of {len(experiment.rows)} miss**" if misses and len(experiment.rows) > 1 else ""
        verdict = verdict or (" **miss**" if misses else "")
        lines.append([f"`{experiment.name}`", experiment.program or "", ", ".join(marks), _span(experiment, results)])
        lines[-1][-1] += verdict
    return markdown(("experiment", "answers to", " expected", " measured"), lines)


def update(path: Path, experiments: Sequence[Experiment], results: Results) -> None:
    """Writes it into a file that has the two marks; leaves any other as it is."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGIN in text and END in text:
        head, _, rest = text.partition(BEGIN)
        tail = rest.partition(END)[2]
        path.write_text(f"{head}{BEGIN}{short(experiments, results)}\n{END}{tail}", encoding="utf-8")


def _span(experiment: Experiment, results: Results) -> str:
    marked = [row for row in experiment.rows if row.mark] or experiment.rows
    means = {row: value for row in marked if (value := goodness(results[row])) is not None}
    ends = dict.fromkeys([min(means, key=means.__getitem__), max(means, key=means.__getitem__)] if means else [])
    return " to ".join(score(results[row]) for row in ends)
