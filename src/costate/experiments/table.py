"""RESULTS.md: what each experiment must reach and has reached, with times in theory and the DNI paper's table beside
ours; and its short form, a line an experiment, in docs/results.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from costate.experiments.rows import METRICS, Experiment, Mark, Result, Row
from costate.reports.groups import statistics
from costate.reports.table import plus_minus

Results = Mapping[Row, Sequence[Result]]
"""Of each row, one result a seed."""
SLOW = 900
"""Seconds that no run should take longer than."""
SIGNS = {">=": "≥", "<=": "≤"}
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
NAMES = {"sg method.conditioned=false": "DNI (sg)", "sg": "cDNI (sg, conditioned)"}
APART, BEHIND, NEAR = 1.0, 0.2, 0.4
"""Points by which errors without any gradient are above those of sg at least, those of conditioned sg above those of sg
at most, and those of conditioned sg and backpropagation apart at most.
"""
BEGIN, END = "<!-- experiments: written by make experiments -->\n", "<!-- end of experiments -->\n"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; numbers stand right where a heading begins with a space."""
    rules = ["---:" if name.startswith(" ") else "---" for name in header]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in ([name.strip() for name in header], rules, *rows))


def values(results: Sequence[Result], metric: str) -> list[float]:
    """The metric of those that have it."""
    return [result.numbers[metric] for result in results if result.numbers and metric in result.numbers]


def mean(results: Sequence[Result], metric: str) -> float | None:
    return statistics(values(results, metric))[0]


def score(results: Sequence[Result]) -> str:
    """Mean ± standard deviation over the seeds, accuracies in %, and what has failed or is missing."""
    words = []
    for metric, percent, unit in (("test/accuracy", 100, " %"), ("test/mse", 1, "")):
        if found := [percent * value for value in values(results, metric)]:
            missing = f" (n = {len(found)})" if len(found) < len(results) else ""
            words.append(f"{plus_minus(*statistics(found))}{unit}{missing}")
    words += [f"**failed**: {result.error}" for result in results if result.error]
    return " ".join(words).replace("|", "\\|") or "not run"


def expected(mark: Mark | None) -> str:
    """The mark, in the units of `score`."""
    if mark is None:
        return ""
    percent = mark.metric == "test/accuracy" and mark.other is None
    bound = f"{100 * mark.bound:g} %" if percent else f"{mark.bound:g}"
    return f"{SIGNS[mark.sign]} {bound}" + (f" × {mark.other}" if mark.other else "")


def missed(row: Row, results: Results) -> bool | None:
    """Whether the mean over the seeds misses the row's mark; None if that cannot be said."""
    mark = row.mark
    if mark is None or (value := mean(results[row], mark.metric)) is None:
        return None
    first = next((found for other, found in results.items() if other.experiment == mark.other), ())
    return mark.missed(value, mean(first, mark.metric))


def page(experiments: Sequence[Experiment], results: Results) -> str:
    """The whole file."""
    text = [
        "# Results",
        "Made by `make experiments`. Test scores of the checkpoint with the best validation score, mean ± standard "
        "deviation over the seeds; seconds of the fit, mean. A row whose mean misses what is expected says **miss**, "
        f"one that takes longer than {SLOW // 60} minutes **slow**.",
        rows(experiments, results),
        speed(results),
        dni_table(results),
        origin([result for each in results.values() for result in each]),
    ]
    return "\n\n".join(filter(None, text)) + "\n"


def rows(experiments: Sequence[Experiment], results: Results) -> str:
    """The table of all rows."""
    lines = []
    for experiment in experiments:
        for row in experiment.rows:
            seconds = mean(results[row], "fit_seconds")
            measured = score(results[row]) + (" **miss**" if missed(row, results) else "")
            slow = " **slow**" if seconds and seconds > SLOW else ""
            cells = [experiment.name, f"`{row.command}`", experiment.program or "", expected(row.mark), measured]
            lines.append([*cells, "" if seconds is None else f"{seconds:.0f}{slow}"])
    return markdown(("experiment", "command", "answers to", " expected", " measured", " seconds"), lines)


def origin(results: Sequence[Result]) -> str:
    """Versions, commits and days of the runs."""
    done = [result for result in results if result.numbers]
    if not done:
        return "Nothing has been run yet."
    numbers = [result.numbers or {} for result in done]
    versions = sorted({", ".join(f"{k} {v}" for k, v in own["versions"].items()) for own in numbers})
    seeds = ", ".join(map(str, sorted({own["seed"] for own in numbers})))
    days, commits = (sorted({getattr(result, what) for result in done} - {""}) for what in ("day", "commit"))
    unknown = sum(not result.commit for result in done)
    made = [f"commit {', '.join(commits)}"] if commits else []
    made += [f"{unknown} of a commit that is not known"] if unknown else []
    changed = " (+: with changes to it)" if any(name.endswith("+") for name in commits) else ""
    span = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "a day that is not known"
    told = f"{len(done)} runs of {span}, {' and '.join(made)}{changed}, seeds {seeds}"
    return f"{told}, with {'; '.join(versions)}."


def speed(results: Results) -> str:
    """The fit in series, the same with its stages side by side in theory, and in a pipeline of processes."""
    by_command = {row.overrides: found for row, found in results.items()}
    lines = []
    for name, ways in PAIRS.items():
        series, pipeline = (by_command.get((f"experiment={name}", *own), ()) for own in ways)
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
        accuracy = mean(found, "test/accuracy")
        if row.experiment == "dni_table_mnist" and accuracy is not None:
            words = dict(word.split("=", 1) for word in row.overrides)
            method = words["method"] + (" method.conditioned=false" if "method.conditioned" in words else "")
            errors[method][len(words["arch.widths"].split(","))] = 100 * (1 - accuracy)
    if not any(errors.values()):
        return ""
    lines = []
    for method, own in errors.items():
        ours = [f"{own[n]:.1f}" if n in own else "—" for n in range(3, 7)]
        pairs = zip(ours, PAPER[method], strict=True)
        lines.append([NAMES.get(method, method), *(f"{error} ({paper})" for error, paper in pairs)])
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


def short(experiments: Sequence[Experiment], results: Results) -> str:
    """What each one answers to, must reach and has reached; of several rows, the worst mean and the best.

    Where some of the rows have a mark and some have none, the means are of those that have one.
    """

    def goodness(row: Row) -> float | None:
        """The mean of what is measured, with the sign by which more is better."""
        found = (sign * x for metric, sign in METRICS.items() if (x := mean(results[row], metric)) is not None)
        return next(found, None)

    lines = []
    for experiment in experiments:
        rows = experiment.rows
        marked = [row for row in rows if row.mark] or rows
        means = {row: value for row in marked if (value := goodness(row)) is not None}
        ends = dict.fromkeys([min(means, key=means.__getitem__), max(means, key=means.__getitem__)] if means else [])
        misses = sum(bool(missed(row, results)) for row in rows)
        of_all = f"{misses} of {len(rows)} " if len(rows) > 1 else ""
        span = " to ".join(score(results[row]) for row in ends) + (f" **{of_all}miss**" if misses else "")
        marks = ", ".join(dict.fromkeys(expected(row.mark) for row in rows if row.mark))
        lines.append([f"`{experiment.name}`", experiment.program or "", marks, span])
    return markdown(("experiment", "answers to", " expected", " measured"), lines)


def update(path: Path, experiments: Sequence[Experiment], results: Results) -> None:
    """Writes the short form between the two marks of a file; leaves one without them as it is."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGIN in text and END in text:
        head, _, rest = text.partition(BEGIN)
        tail = rest.partition(END)[2]
        path.write_text(f"{head}{BEGIN}{short(experiments, results)}\n{END}{tail}", encoding="utf-8")
