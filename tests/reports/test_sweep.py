"""A sweep ends with one table, whatever became of its jobs."""

import csv
import json
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import OmegaConf

from costate.reports.sweep import SweepTable, failures, read, show


def config(folder: Path, number: int = 0, overrides: tuple[str, ...] = (), mode: RunMode = RunMode.MULTIRUN):
    hydra = {
        "mode": mode,
        "sweep": {"dir": str(folder)},
        "job": {"num": number},
        "runtime": {"output_dir": str(folder / str(number))},
        "overrides": {"task": list(overrides)},
    }
    return OmegaConf.create({"hydra": hydra})


def job(folder: Path, number: int, overrides: str, **results) -> None:
    """What Hydra and a run do."""
    (folder / str(number)).mkdir()
    cfg = config(folder, number, tuple(overrides.split()))
    SweepTable().on_job_start(cfg)
    if results:
        (folder / str(number) / "summary.json").write_text(json.dumps(results))
    SweepTable().on_job_end(cfg, JobReturn())


def measured(accuracy: float, speed: float = 1000.0) -> dict:
    return {
        "test/loss": 1 - accuracy,
        "test/accuracy": accuracy,
        "val/accuracy": 0.5,
        "fit_seconds": 10.0,
        "samples_per_second": speed,
        "seed": 7,
        "versions": {"torch": "2"},
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    job(tmp_path, 0, "data=digits arch=mlp seed=0", **measured(0.90))
    job(tmp_path, 1, "data=digits arch=mlp seed=1", **measured(0.92, speed=3000))
    job(tmp_path, 2, "data=digits arch=verlet seed=0", **measured(0.97))
    job(tmp_path, 3, "data=digits arch=verlet seed=1", error="depth=-1: no | depth.")
    job(tmp_path, 10, "data=digits arch=cnn seed=0", error="No image.")
    job(tmp_path, 9, "data=digits +arch=cnn seed=1")
    return tmp_path


def test_groups_are_what_is_swept_but_the_seed(sweep: Path) -> None:
    mlp, verlet, cnn = rows(sweep / "summary.csv")
    assert list(mlp)[:3] == ["arch", "n", "failed"]
    assert [group["arch"] for group in (mlp, verlet, cnn)] == ["mlp", "verlet", "cnn"]
    assert [(group["n"], group["failed"]) for group in (mlp, verlet, cnn)] == [("2", "0"), ("1", "1"), ("0", "2")]


def test_mean_and_sample_standard_deviation(sweep: Path) -> None:
    mlp, verlet, cnn = rows(sweep / "summary.csv")
    assert float(mlp["test/accuracy"]) == pytest.approx(0.91)
    assert float(mlp["test/accuracy std"]) == pytest.approx(0.02 / 2**0.5)
    assert float(mlp["samples_per_second"]) == 2000
    assert (verlet["test/accuracy"], verlet["test/accuracy std"]) == ("0.97", "")
    assert (cnn["test/accuracy"], cnn["test/accuracy std"]) == ("", "")


def test_scores_come_before_the_loss_and_the_costs_last(sweep: Path) -> None:
    means = [name for name in rows(sweep / "summary.csv")[0] if not name.endswith("std")]
    assert means[3:] == ["test/accuracy", "test/loss", "fit_seconds", "samples_per_second"]


def test_every_run_has_its_row(sweep: Path) -> None:
    runs = rows(sweep / "runs.csv")
    assert [run["job"] for run in runs] == ["0", "1", "2", "3", "9", "10"]
    assert runs[1] | {"arch": "mlp", "seed": "1", "val/accuracy": "0.5", "error": ""} == runs[1]
    assert runs[3]["error"] == "depth=-1: no | depth."
    assert len(runs[0]) == len((sweep / "runs.csv").read_text().splitlines()[0].split(","))
    assert "data" not in runs[0]
    assert "versions" not in runs[0]


def test_the_page_has_a_table_and_the_reasons(sweep: Path) -> None:
    page = (sweep / "summary.md").read_text().splitlines()
    assert page[0] == "| arch | n | test/accuracy | test/loss | fit_seconds | samples_per_second |"
    assert page[2] == "| mlp | 2 | 0.910 ± 0.014 | 0.090 ± 0.014 | 10 | 2000 ± 1414 |"
    assert page[3] == "| verlet | 1 (1 failed) | 0.97 | 0.03 | 10 | 1000 |"
    assert page[4] == "| cnn | 0 (2 failed) |  |  |  |  |"
    assert {line.count("|") for line in page[:5]} == {7}
    assert "- arch=verlet seed=1: depth=-1: no | depth." in page
    assert "- arch=cnn seed=1: it did not come to its end" in page


def test_the_screen_shows_the_same(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        SweepTable().on_multirun_end(config(sweep))
    assert ended.value.code == 1, "a job has failed"
    shown = capsys.readouterr().out
    assert "0.910 ± 0.014" in shown
    assert "1 (1 failed)" in shown
    assert "failed: arch=cnn seed=0: No image." in shown


def test_on_80_columns_numbers_stay_whole_and_what_has_no_room_is_named(sweep, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")  # of 80 columns, without colours
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    job(sweep, 5, "data=digits arch=mlp seed=2 method=greedy_with_a_head", **measured(0.91))
    show(sweep)
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown[1:])) <= 80
    assert "0.910 ± 0.014" in "".join(shown)
    assert "No room here for fit_seconds, samples_per_second: they are in summary.md there." in shown


def test_a_sweep_of_one_job_that_fails_says_why_alone(tmp_path: Path) -> None:
    """It began with ": ", as nothing tells one job from another."""
    job(tmp_path, 0, "seed=0..2", error="seed must be an integer.")
    assert failures(read(tmp_path, None)) == ["seed must be an integer."]


def test_a_sweep_over_seeds_alone_is_one_row(tmp_path: Path) -> None:
    for seed in range(3):
        job(tmp_path, seed, f"arch=mlp seed={seed}", **measured(0.9 + seed / 100))
    (row,) = rows(tmp_path / "summary.csv")
    assert row["n"] == "3"
    assert float(row["test/accuracy std"]) == pytest.approx(0.01)


def test_seeds_of_other_kinds_are_settings_like_any(tmp_path: Path) -> None:
    """data.seed draws other points: means over it are of something else than means over seed."""
    for number, (points, seed) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        job(tmp_path, number, f"data.seed={points} seed={seed}", **measured(0.9 + points / 20 + seed / 100))
    found = [(row["data.seed"], row["n"], float(row["test/accuracy"])) for row in rows(tmp_path / "summary.csv")]
    assert found == [("0", "2", pytest.approx(0.905)), ("1", "2", pytest.approx(0.955))]


def test_tasks_of_two_kinds_share_a_table(tmp_path: Path) -> None:
    job(tmp_path, 0, "data=digits", **measured(0.9))
    job(tmp_path, 1, "data=surface", **{"test/mse": 0.1, "test/loss": 0.1})
    digits, surface = rows(tmp_path / "summary.csv")
    assert (digits["test/mse"], surface["test/accuracy"]) == ("", "")
    assert surface["test/mse"] == "0.1"


def test_a_run_that_went_astray_does_not_break_the_table(tmp_path: Path) -> None:
    for seed, mse in enumerate([0.1, float("inf"), float("nan")]):
        job(tmp_path, seed, f"seed={seed}", **{"test/mse": mse})
    (row,) = rows(tmp_path / "summary.csv")
    assert (row["test/mse"], row["test/mse std"]) == ("nan", "")


def test_a_new_sweep_into_an_old_folder_forgets_the_old_jobs(sweep: Path) -> None:
    table = SweepTable()
    table.on_multirun_start(config(sweep))
    for number in (0, 1):
        table.on_job_start(config(sweep, number, ("arch=mlp", f"seed={number}")))
    table.on_job_end(config(sweep), JobReturn())
    assert [run["job"] for run in rows(sweep / "runs.csv")] == ["0", "1"]


def test_a_sweep_that_is_given_again_in_other_words_has_its_table(tmp_path: Path) -> None:
    """Its jobs had all ended and were none of its own: the table was written over by one without rows."""
    for seed in (0, 1):
        job(tmp_path, seed, f"data=ellipse method=none seed={seed}", **measured(0.9 + seed / 100))
        (tmp_path / str(seed) / "config.yaml").touch()
    (full,) = rows(tmp_path / "summary.csv")
    table = SweepTable()
    table.on_multirun_start(config(tmp_path))
    for status in (JobStatus.UNKNOWN, JobStatus.COMPLETED):  # one that is stopped, and one that finds its run
        for seed in (0, 1):
            again = config(tmp_path, seed, ("method=none", "data=ellipse", "data.cache=there", f"seed={seed}"))
            table.on_job_start(again)
            table.on_job_end(again, JobReturn(status=status))
        assert rows(tmp_path / "summary.csv") == [full]
    assert [found.settings["data.cache"] for found in read(tmp_path, table.sweep)] == ["there"] * 2


def test_a_single_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    cfg = config(tmp_path, overrides=("seed=1",), mode=RunMode.RUN)
    SweepTable().on_job_start(cfg)
    SweepTable().on_job_end(cfg, JobReturn())
    assert not list((tmp_path / "0").iterdir())
    assert not (tmp_path / "summary.csv").exists()
