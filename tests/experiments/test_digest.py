"""The short form of the results in the docs."""

from pathlib import Path

from composing import CONF
from costate.experiments import table
from costate.experiments.rows import Experiment, Mark, Result, Row, read_all

MARK = Mark("test/accuracy", ">=", 0.99)
ROWS = tuple(Row("net", ("experiment=net", f"arch={arch}"), MARK, 1) for arch in ("a", "b", "c"))
NET = Experiment("net", "net.py", ROWS)


def test_it_has_a_line_for_each_program_and_what_each_must_reach():
    block = (CONF.parent / "docs/results.md").read_text().partition(table.BEGIN)[2].partition(table.END)[0]
    experiments = [each for each in read_all(CONF / "experiment") if each.program is not None]
    empty = table.short(experiments, {row: [] for each in experiments for row in each.rows})
    cells = [[line.split(" | ")[:3] for line in text.splitlines()] for text in (block, empty)]
    assert cells[0] == cells[1], "docs/results.md is behind conf/experiment: python -m costate.experiments writes it"


def test_several_rows_are_told_by_the_worst_and_the_best_and_the_misses(tmp_path):
    results = {row: [Result({"test/accuracy": x})] for row, x in zip(ROWS, (0.995, 0.98, 0.992), strict=True)}
    path = tmp_path / "README.md"
    path.write_text(f"before\n{table.BEGIN}old\n{table.END}behind\n")
    table.update(path, [NET], results)
    text = path.read_text()
    assert "| `net` | net.py | ≥ 99 % | 98 % to 99.5 % **1 of 3 miss** |" in text
    assert text.startswith("before\n")
    assert text.endswith("behind\n")
    assert "old" not in text


def test_rows_without_a_mark_are_left_out_where_others_have_one():
    rows = (Row("net", ("experiment=net", "method=none"), None, 1), *ROWS[:2])
    results = {row: [Result({"test/accuracy": x})] for row, x in zip(rows, (0.5, 0.995, 0.99), strict=True)}
    net = Experiment("net", "net.py", rows)
    assert table.short([net], results).endswith("| 99 % to 99.5 % |")
    none = Experiment("net", "net.py", rows[:1])
    assert table.short([none], results).endswith("| 50 % |")
    assert table.short([net], {row: [] for row in rows}).endswith("|  |")


def test_of_errors_the_least_is_the_best():
    results = {row: [Result({"test/mse": x})] for row, x in zip(ROWS, (0.2, 0.1, 0.3), strict=True)}
    assert table.short([NET], results).endswith("| 0.3 to 0.1 |")


def test_a_file_without_the_marks_and_no_file_stay_as_they_are(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("nothing here")
    table.update(path, [NET], {row: [] for row in ROWS})
    assert path.read_text() == "nothing here"
    table.update(Path(tmp_path / "none.md"), [NET], {row: [] for row in ROWS})
    assert not (tmp_path / "none.md").exists()
