"""What a run says while it trains and when it is over, on a terminal of 80 columns."""

import re

import pytest

from costate.training import screen
from running import SMALL, fit

QUIET = ("log_every=4", "callbacks=[throughput]")


def test_the_bar_counts_as_the_lines_do_and_its_validation_numbers_are_readable(tmp_path, capsys):
    """It said "Epoch 4" beside "epoch 5/12", and 80 columns ended in front of the validation's numbers."""
    fit(tmp_path, *SMALL, *QUIET, "trainer.progress=bar")
    shown = re.split(r"[\r\n]", capsys.readouterr().out)
    bars = [line for line in shown if "%|" in line and "test" not in line.lower()]
    assert {int(found) for line in bars for found in re.findall(r"^epoch +(\d+)/3:", line)} == {1, 2, 3}
    assert all(line.startswith("epoch") for line in bars)
    # A terminal cuts off what does not fit.
    assert re.search(r"val/loss=[\d.]+, val/accuracy=[\d.]+", bars[-1]), bars[-1]
    assert max(map(len, bars)) <= 80


def test_lines_are_of_80_columns_under_one_header_and_end_with_the_numbers_of_the_table(tmp_path, capsys):
    """They were of 93 columns, and train/accuracy that of the last batch."""
    levels = ("levels=double", "levels.count=2", "levels.epochs=[1,2]")
    results = fit(tmp_path, *SMALL, *QUIET, *levels, "trainer.progress=lines").results()
    head, *lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("epoch", "   "))]
    names = head.split()
    assert names == ["val/loss", "val/accuracy", "train/loss", "train/accuracy", "depth", "level"]
    assert [line[:11] for line in lines] == ["epoch   1/3", "epoch   2/3", "epoch   3/3"]
    assert max(map(len, lines)) <= 80
    last = dict(zip(names, lines[-1].split()[2:], strict=True))
    for name in ("train/loss", "train/accuracy"):
        assert last[name] == f"{results[name]:.4g}"


def test_probes_say_at_the_end_what_they_have_found(tmp_path, capsys):
    results = fit(tmp_path, *SMALL, "trainer.progress=none", "callbacks=linear_probes").results()
    found = f"{results['stage/0/probe_accuracy']:.4g}, {results['stage/1/probe_accuracy']:.4g}"
    assert f"Linear probes, validation accuracy behind each stage: {found}\n" in capsys.readouterr().out


def test_behind_the_last_stage_there_is_no_boundary(tmp_path, capsys):
    fit(tmp_path, *SMALL, "trainer.progress=none", "callbacks=none", "summary=true", "epochs=1")
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│ ")]
    cells = [[cell.strip() for cell in row] for row in rows if row[0].strip() in ("0", "1")]
    assert [row[4:] for row in cells] == [["16", "64", "64"], ["", "", ""]]


@pytest.fixture
def results():
    best = {"best_epoch": 3, "best_epoch/val/loss": 0.1, "val/loss": 0.05, "least_loss_epoch": 4, "val/accuracy": 1.0}
    more = {"fit_seconds": 12.3, "samples_per_second": 4567.8, "parameters": 5, "boundary/0/cosine": 0.7}
    return {**best, "test/accuracy": 0.975, "test/loss": 0.12, "train/loss": 0.01, "epochs": 5, **more}


def test_the_table_at_the_end_says_which_epoch_each_number_is_of(results, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    last = {"val/accuracy": 0.9, "val/loss": 0.15, "train/loss": 0.01, "train/accuracy": 1.0, "stage/0/norm": 3.0}
    screen.show(results, last, "runs/a b")
    table, closing = capsys.readouterr().out.split("└")
    lines = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in table.splitlines()]
    assert [cells for cells in lines if cells] == [
        ["", "best epoch, 3", "last epoch, 5", "gap to the best"],
        ["test/accuracy", "0.975", "", ""],
        ["test/loss", "0.12", "", ""],
        ["val/accuracy", "1", "0.9", "-0.1"],
        ["val/loss", "0.1", "0.15", "+0.05"],
        ["train/accuracy", "", "1", ""],
        ["train/loss", "", "0.01", ""],
    ]
    assert closing.splitlines()[1:] == [
        "The least val/loss was 0.05, in epoch 4.",
        "It took 12.3 s, 4,568 samples a second.",
        "All numbers: summary.json and metrics.csv there.",
        "To look at it: python -m costate.reports 'runs/a b'",
    ]
