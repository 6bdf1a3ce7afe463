"""What the benchmark of links makes of what it measures."""

import pytest

from costate.benchmarks.costs import SIZES
from costate.benchmarks.network import (
    COUNTS,
    FEWER,
    METHODS,
    SERIAL,
    Line,
    Over,
    Pair,
    foretold,
    many,
    result_of,
    table,
)
from costate.reports import benchmarks as figures

ROWS, STATE, WEIGHTS = 256, 524_288.0, 5e6
LINES = Line(), Line(rate=100.0), Line(rate=10.0), Line(trip=10.0)


def way(speed: float, down: float, up: float) -> dict[str, float]:
    return {"per_second": speed, "busy": 0.9, "down": down, "up": up}


FREE = {
    SERIAL: way(10_000, 0, 0),
    "torch DDP": way(15_000, WEIGHTS, WEIGHTS),
    "torch 1F1B": way(11_000, STATE, STATE),
    "torch GPipe": way(11_000, STATE, STATE),
    **{name: way(17_000, STATE, STATE) for name in METHODS},
    FEWER: way(17_000, STATE / 2, 0),
    "full unlock": way(14_000, 8e3, 8e3),
}


def over(line: Line) -> Over:
    """As a link of that rate and round trip would be measured; each way has its speed without a limit."""
    latency, per_byte = line.trip / 2e3 + 1e-4, 8 / (1e6 * line.rate) if line.rate else 1e-9
    seconds = {str(size): 2 * latency + 2 * size * per_byte for size in SIZES["link"]}
    ring = {str(size): 2 * latency + size * per_byte for size in SIZES["ring"]}
    return Over(FREE, {"link": seconds, "ring": ring})


def pair(line: Line) -> Pair:
    return Pair(over(LINES[0]), over(line))


def test_without_a_limit_the_prediction_is_the_measurement():
    for name, speed in foretold(pair(LINES[0]), ROWS).items():
        assert speed == pytest.approx(FREE[name]["per_second"], rel=0.01), name


def test_a_slow_link_holds_up_who_sends_much_and_a_far_one_who_waits():
    slow, far = (foretold(pair(line), ROWS) for line in (LINES[2], LINES[3]))
    assert slow["torch DDP"] == pytest.approx(ROWS / (ROWS / 15_000 + 8 * WEIGHTS / 10e6), rel=0.01)
    assert slow["pipeline coarse"] == pytest.approx(ROWS / (8 * STATE / 10e6), rel=0.01)
    assert slow["full unlock"] == pytest.approx(14_000, rel=0.01)
    assert far["pipeline coarse"] == pytest.approx(17_000, rel=0.01)
    assert far["torch 1F1B"] < 0.8 * 11_000
    assert slow[SERIAL] == far[SERIAL] == pytest.approx(10_000)


def test_replicas_pay_for_their_gradients():
    grid = many(pair(LINES[1]), ROWS)["grid"]
    assert all(R * K <= 64 for R, K in (map(int, key.split("x")) for key in grid))
    assert many(pair(LINES[0]), ROWS)["grid"]["2x2"] > grid["2x2"]


def test_its_table_and_figures_have_every_way(tmp_path):
    result = result_of("net", ROWS, {line: [pair(line)] for line in LINES})
    text = table(result)
    assert all(f"| {name} |" in text for name in FREE)
    for figure in (figures.links(result), figures.many(result, COUNTS)):
        shown = {label.get_text() for legend in figure.legends for label in legend.get_texts()}
        assert {name for name in FREE if name != SERIAL} <= shown
        (legend,) = figure.legends
        entries = zip(legend.get_texts(), legend.legend_handles, strict=True)
        colours = [handle.get_color() for label, handle in entries if label.get_text() in FREE]
        assert len(set(colours)) == len(colours) >= len(FREE) - 1, "a dashed line has nothing but its colour"
        figure.savefig(tmp_path / "figure.png")


def test_each_column_of_panels_ends_with_numbers():
    """Of three panels the one on the right had none: numbers stood in the last row alone."""
    figure = figures.many(result_of("net", ROWS, {line: [pair(line)] for line in LINES[:3]}), COUNTS)
    figure.draw_without_rendering()
    shown = [any(tick.label1.get_visible() for tick in axes.xaxis.get_major_ticks()) for axes in figure.axes]
    assert shown == [False, True, True]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "hosts", "hosts"]


def test_links_that_were_not_measured_have_no_panel(tmp_path):
    """The panel of round trips was empty where links were slow alone."""
    for lines, panels in ((LINES[:2], 1), (LINES, 2), (LINES[:1], 1)):
        figure = figures.links(result_of("net", ROWS, {line: [pair(line)] for line in lines}))
        assert len(figure.axes) == panels
