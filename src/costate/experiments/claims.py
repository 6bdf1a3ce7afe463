"""What RESULTS.md says beside the scores: times in theory and measured, and the DNI paper's table beside ours."""

from collections.abc import Sequence

from costate.experiments.headers import Row
from costate.experiments.running import Result
from costate.experiments.table import Results, markdown, mean

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
