"""What RESULTS.md says beside the scores."""

import pytest

from composing import CONF
from costate.experiments import table
from costate.experiments.rows import Result, read

TABLE = read(CONF / "experiment" / "dni_table_mnist.yaml").rows


def lines(page: str) -> dict[str, str]:
    return {line.split(" | ")[0][2:]: line for line in page.splitlines() if line.startswith("| ")}


def test_the_theoretical_fit_has_the_slowest_stage_in_place_of_all():
    serial = {"fit_seconds": 100.0, "series_seconds": 80.0, "theoretical_seconds": 44.0}
    rows = read(CONF / "experiment" / "distributed_sg.yaml").rows
    results = dict(zip(rows, ([Result({"fit_seconds": 70.0})], [Result(serial)]), strict=True))
    assert lines(table.speed(results))["distributed_sg"].endswith("| 100 | 80 | 44 | 64 | 70 | 1.56 | 1.43 |")
    assert table.speed({rows[0]: [Result()]}) == ""


def test_errors_stand_beside_the_papers():
    results = {row: [Result({"test/accuracy": 0.9})] for row in TABLE if "method=none" in row.overrides}
    page = lines(table.dni_table(results))
    assert page["none"] == "| none | 10.0 (9.3) | 10.0 (12.6) | 10.0 (16.2) | 10.0 (21.4) |"
    assert page["cDNI (sg, conditioned)"].endswith("— (1.6) |")
    assert "order" not in table.dni_table(results)
    assert table.dni_table({row: [Result()] for row in TABLE}) == ""


@pytest.mark.parametrize("name", table.PAIRS)
def test_what_is_run_in_series_and_in_a_pipeline_are_commands_of_the_experiment(name):
    rows = {row.overrides for row in read(CONF / "experiment" / f"{name}.yaml").rows}
    assert {(f"experiment={name}", *way) for way in table.PAIRS[name]} <= rows


@pytest.mark.parametrize(
    ("none", "backprop", "sg", "conditioned", "told"),
    [
        (9.3, 2.0, 2.2, 1.9, "order holds"),
        (9.3, 1.7, 1.9, 2.1, "order holds"),
        (3.2, 2.0, 2.2, 1.9, "**order does not hold**"),
        (9.3, 2.1, 1.9, 2.2, "**order does not hold**"),
        (9.3, 1.5, 2.2, 2.0, "**order does not hold**"),
        (9.3, 2.5, 2.2, 2.0, "**order does not hold**"),
    ],
    ids=["it holds", "at its bounds", "none too good", "conditioned behind sg", "behind backprop", "before backprop"],
)
def test_the_order_of_the_methods_is_held_against_its_tolerances(none, backprop, sg, conditioned, told):
    errors = {"method=none": none, "method=backprop": backprop, "method=sg": conditioned}
    results = {}
    for row in TABLE:
        error = sg if "method.conditioned=false" in row.overrides else errors[row.overrides[1]]
        if row.overrides[-1].count("256") < 5:
            results[row] = [Result({"test/accuracy": 1 - error / 100})]
    page = table.dni_table(results).splitlines()
    assert [line for line in page if line.startswith("- ")] == [f"- 3 layers: {told}", f"- 4 layers: {told}"]
