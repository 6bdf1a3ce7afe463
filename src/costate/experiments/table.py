"""RESULTS.md: what each experiment must reach and what it has reached; and its short form in docs/results.md."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from costate.experiments.rows import METRICS, Experiment, Mark, Result, Row
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


PAIRS = {
    "standard_sg": ((), ("execution=pipeline",)),
    "distributed_sg": (("execution=serial",), ()),
}
"""Experiments that are run in series and in a pipeline: the overrides of each."""

PAPER = {
    "none": (9.3, 12.6, 16.2, 21.4),
    "backprop": (2.0, 1.8, 1.8, 1.8),
    "sg method.conditioned=false": (1.9, 2.2, 3.4, 4.3),
    "sg": (2.2, 1.9, 1.7, 1.6),
}
"""Test errors in %, for 3 to 6 layers (Jaderberg et al., 2017, table 1), recalled and not checked."""

APART, BEHIND, NEAR = 1.0, 0.2, 0.4
"""Points by which errors without any gradient are above those of sg at least, those of conditioned sg above those of sg
at most, and those of conditioned sg and backpropagation apart at most.
"""

NAMES = {"sg method.conditioned=false": "DNI (sg)", "sg": "cDNI (sg, conditioned)"}


def speed(results: Results) -> str:
    """The fit in series, the same with its stages side by side in theory, and in a pipeline of processes."""
    lines = []
    for name, ways in PAIRS.items():
        series, pipeline = (_of(results, (f"experiment={name}", *own)) for own in ways)
        whole, parts = mean(series, "fit_seconds"), mean(series, "series_seconds")
        slowest, measured = mean(series, "theoretical_seconds"), mean(pipeline, "fit_seconds")
        if whole is None or parts is None or slowest is None or measured is None:
            continue
        theory = whole - parts + slowest
        cells = [whole, parts, slowest, theory, measured]
        lines.append([name, *(f"{x:.0f}" for x in cells), f"{whole / theory:.2f}", f"{whole / measured:.2f}"])
    if not lines:
        return ""
    header = ("", " fit in series", " its stages", " slowest stage", " fit in theory", " fit in a pipeline")
    table = markdown((*header, " speed-up in theory", " measured"), lines)
    return (
        "## Theoretical and measured parallel time\n\nSeconds on one machine. In theory a fit takes its time in series "
        "with the operations of the slowest stage in place of those of all stages; the pipeline runs each stage in a "
        f"process of its own. A thread a process.\n\n{table}"
    )


def dni_table(results: Results) -> str:
    """Test errors by method and number of layers, the paper's in brackets, and whether they are in its order."""
    errors: dict[str, dict[int, float]] = {method: {} for method in PAPER}
    for row, found in results.items():
        if row.experiment == "dni_table_mnist":
            words = dict(word.split("=", 1) for word in row.overrides)
            method = words["method"] + (" method.conditioned=false" if "method.conditioned" in words else "")
            accuracy = mean(found, "test/accuracy")
            if accuracy is not None:
                errors[method][len(words["arch.widths"].split(","))] = 100 * (1 - accuracy)
    if not any(errors.values()):
        return ""
    lines = [
        [NAMES.get(method, method), *(f"{_error(own.get(n))} ({paper})" for n, paper in enumerate(PAPER[method], 3))]
        for method, own in errors.items()
    ]
    table = markdown(("", " 3 layers", " 4", " 5", " 6"), lines)
    return (
        "## Test errors beside the DNI paper's\n\nMNIST, layers of 256 with batch norm, a boundary after each, %. In "
        "brackets table 1 of Jaderberg et al. (2017), recalled, and to be checked against the paper by whoever has "
        f"it.\n\n{table}{_orders(errors)}"
    )


def _orders(errors: dict[str, dict[int, float]]) -> str:
    """A line for each number of layers of which all four errors are known."""
    lines = []
    for layers in range(3, 7):
        if all(layers in own for own in errors.values()):
            none, backprop, sg, conditioned = (own[layers] for own in errors.values())
            # To a millionth, so that 2.1 and 1.7 are no more than 0.4 apart.
            above, behind, apart = (round(x, 6) for x in (none - sg, conditioned - sg, abs(conditioned - backprop)))
            holds = above > APART and behind <= BEHIND and apart <= NEAR
            lines.append(f"- {layers} layers: " + ("order holds" if holds else "**order does not hold**"))
    if not lines:
        return ""
    return (
        f"\n\nThe order is none ≫ sg ≥ conditioned ≈ backprop: it holds where none is more than {APART:g} point "
        f"above sg, conditioned sg at most {BEHIND:g} above sg, and within {NEAR:g} of backprop.\n\n" + "\n".join(lines)
    )


def _of(results: Results, overrides: tuple[str, ...]) -> Sequence[Result]:
    rows = {row.overrides: row for row in results}
    row: Row | None = rows.get(overrides)
    return [] if row is None else results[row]


def _error(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f}"


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
