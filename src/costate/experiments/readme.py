"""The short form of RESULTS.md, a line an experiment, between two marks in README.md."""

from collections.abc import Sequence
from pathlib import Path

from costate.experiments.headers import Experiment, Row
from costate.experiments.table import Results, expected, markdown, mean, missed, score

BEGIN, END = "<!-- experiments: written by make experiments -->\n", "<!-- end of experiments -->\n"


def short(experiments: Sequence[Experiment], results: Results) -> str:
    """What each one answers to, must reach and has reached; of several rows, the worst mean and the best."""
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
    ends = [_mean(row, results) for row in experiment.rows]
    rows = [row for row, end in zip(experiment.rows, ends, strict=True) if end is not None]
    if len(rows) < 2:
        return score(results[rows[0]]) if rows else ""
    rows = sorted(rows, key=lambda row: _mean(row, results) or 0.0)
    return f"{score(results[rows[0]])} to {score(results[rows[-1]])}"


def _mean(row: Row, results: Results) -> float | None:
    accuracy = mean(results[row], "test/accuracy")
    return mean(results[row], "test/mse") if accuracy is None else accuracy
