"""What a run says while it trains and when it is over, on a terminal of 80 columns."""

import re

import pytest

from costate.training import summary
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
    assert re.search(r"val/accuracy=[\d.]+, val/loss=[\d.]+(, |$)", bars[-1][:80]), bars[-1]


@pytest.fixture
def results():
    best = {"best_epoch": 3, "best_epoch/val/loss": 0.1, "val/loss": 0.05, "least_loss_epoch": 4, "val/accuracy": 1.0}
    more = {"fit_seconds": 12.3, "samples_per_second": 4567.8, "parameters": 5, "boundary/0/cosine": 0.7}
    return {**best, "test/accuracy": 0.975, "test/loss": 0.12, "train/loss": 0.01, "epochs": 5, **more}


def test_the_table_at_the_end_says_which_epoch_each_number_is_of(results, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    last = {"val/accuracy": 0.9, "val/loss": 0.15, "train/loss": 0.01, "train/accuracy": 1.0, "stage/0/norm": 3.0}
    summary.show(results, last, "runs/a b")
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
        "It took 12.3 s, 4,568 samples a second. All numbers: summary.json and metrics.csv there.",
        "To look at it: python -m costate.reports 'runs/a b'",
    ]
