"""RESULTS.md: what each experiment must reach and what it has reached."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from costate.experiments.headers import Experiment, Mark, Row
from costate.experiments.running import METRICS, Result
from costate.reports.groups import plus_minus, statistics

Results = Mapping[Row, Sequence[Result]]
"""Of each row, one result a seed."""

SLOW = 900
"""Seconds that no run should take longer than."""
SIGNS = {">=": "≥", "<=": "≤"}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; numbers stand right where a heading begins with a space."""
    rules = ["---:" if name.startswith(" ") else "---" for name in header]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in ([name.strip() for name in header], rules, *rows))


def values(results: Sequence[Result], metric: str) -> list[float]:
    """The metric of those that have it."""
    return [result.numbers[metric] for result in results if result.numbers and metric in result.numbers]


def mean(results: Sequence[Result], metric: str) -> float | None:
    found = values(results, metric)
    return fmean(found) if found else None


def goodness(results: Sequence[Result]) -> float | None:
    """The mean of what they measure, with the sign by which more is better; None where nothing is measured."""
    return next((sign * x for metric, sign in METRICS.items() if (x := mean(results, metric)) is not None), None)


def score(results: Sequence[Result]) -> str:
    """Mean ± standard deviation over the seeds, accuracies in %, and what has failed or is missing."""
    words = []
    for metric in METRICS:
        percent = 100 if metric == "test/accuracy" else 1
        if found := [percent * value for value in values(results, metric)]:
            unit = " %" if percent == 100 else ""
            words.append(f"{plus_minus(*statistics(found))}{unit}")
            if len(found) < len(results):
                words.append(f"(n = {len(found)})")
    words += [f"**failed**: {result.error}" for result in results if result.error]
    return " ".join(words).replace("|", "\\|") or "not run"


def expected(mark: Mark | None) -> str:
    """The mark, in the units of `score`."""
    if mark is None:
        return ""
    if mark.other is not None:
        return f"{SIGNS[mark.sign]} {mark.bound:g} × {mark.other}"
    return f"{SIGNS[mark.sign]} " + (f"{100 * mark.bound:g} %" if mark.metric == "test/accuracy" else f"{mark.bound:g}")


def missed(row: Row, results: Results) -> bool | None:
    """Whether the mean over the seeds misses the row's mark; None if that cannot be said."""
    if row.mark is None:
        return None
    value = mean(results[row], row.mark.metric)
    first = next((other for other in results if other.experiment == row.mark.other), None)
    reference = None if first is None else mean(results[first], row.mark.metric)
    return None if value is None else row.mark.missed(value, reference)


def rows(experiments: Sequence[Experiment], results: Results) -> str:
    """The table of all rows."""
    lines = []
    for experiment in experiments:
        for row in experiment.rows:
            seconds = mean(results[row], "fit_seconds")
            verdict = " **miss**" if missed(row, results) else ""
            lines.append(
                [
                    experiment.name,
                    f"`{row.command}`",
                    experiment.program or "",
                    expected(row.mark),
                    score(results[row]) + verdict,
                    "" if seconds is None else f"{seconds:.0f}" + (" **slow**" if seconds > SLOW else ""),
                ]
            )
    return markdown(("experiment", "command", "answers to", " expected", " measured", " seconds"), lines)


def page(experiments: Sequence[Experiment], results: Results, parts: Sequence[Callable[[Results], str]]) -> str:
    """The whole file.

    Args:
        parts: further sections, empty where there is nothing to say.
    """
    text = [
        "# Results",
        "Made by `make experiments`. Test scores of the checkpoint with the best validation score, mean ± standard "
        "deviation over the seeds; seconds of the fit, mean. A row whose mean misses what is expected says **miss**, "
        f"one that takes longer than {SLOW // 60} minutes **slow**.",
        rows(experiments, results),
        *(part(results) for part in parts),
        origin([result for each in results.values() for result in each]),
    ]
    return "\n\n".join(filter(None, text)) + "\n"


def origin(results: Sequence[Result]) -> str:
    """Versions, commits and days of the runs."""
    done = [result for result in results if result.numbers]
    if not done:
        return "Nothing has been run yet."
    versions = sorted({", ".join(f"{k} {v}" for k, v in (r.numbers or {})["versions"].items()) for r in done})
    days = sorted({result.day for result in done if result.day})
    seeds = sorted({(result.numbers or {})["seed"] for result in done})
    commits = sorted({result.commit for result in done if result.commit})
    unknown = sum(not result.commit for result in done)
    made = [f"commit {', '.join(commits)}"] * bool(commits) + [f"{unknown} of a commit that is not known"] * bool(
        unknown
    )
    changed = " (+: with changes to it)" if any(name.endswith("+") for name in commits) else ""
    span = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "a day that is not known"
    return (
        f"{len(done)} runs of {span}, {' and '.join(made)}{changed}, seeds {', '.join(map(str, seeds))}, "
        f"with {'; '.join(versions)}."
    )
