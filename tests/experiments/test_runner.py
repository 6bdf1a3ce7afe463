"""The runner, with jobs that cost nothing: misses, failures, and what is not run twice."""

import json
from pathlib import Path

import pytest

from composing import CONF
from costate import jobs
from costate.experiments import claims, running, table
from costate.experiments.__main__ import main
from costate.experiments.headers import Mark, Row, read
from costate.experiments.running import Result, Run

ROW = Row("surface_sgd", ("experiment=surface_sgd",), None, 1)
LATER = Row("surface_asynchronous", ("experiment=surface_asynchronous",), Mark("test/mse", "<=", 1.5, "surface_sgd"), 1)
VERSIONS = {"python": "3.11.7", "costate": "0.1.0"}


class Job:
    """Ends at once, with the score of a seed; counts how often it is asked."""

    def __init__(self, **scores: float):
        self.scores, self.asked = scores, []

    def __call__(self, folder: Path, *overrides: str) -> None:
        words = dict(word.partition("=")[::2] for word in overrides)
        self.asked.append((words["experiment"], words["seed"]))
        if words["experiment"] not in self.scores:
            raise ValueError("the data are gone")
        score = self.scores[words["experiment"]]
        numbers = {"test/mse": score, "fit_seconds": 7.0, "versions": VERSIONS, "seed": int(words["seed"])}
        (folder / "summary.json").write_text(json.dumps(numbers))


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Runs `python -m costate.experiments` for the surfaces, on such jobs; returns the exit code, RESULTS.md and what
    was run.
    """

    def run(job: Job, *words: str):
        monkeypatch.setattr(jobs, "run", job)
        out = tmp_path / "out" / "RESULTS.md"
        code = main([*words, "--seeds", "0,1", "--runs", str(tmp_path / "runs"), "--out", str(out)])
        return code, out.read_text(), job.asked

    return run


SURFACES = ("surface_sgd", "surface_asynchronous")


def lines(page: str) -> dict[str, str]:
    return {line.split(" | ")[0][2:]: line for line in page.splitlines() if line.startswith("| ")}


def test_a_miss_is_told_and_is_no_failure(asked, capsys):
    code, page, ran = asked(Job(surface_sgd=0.02, surface_asynchronous=0.031), *SURFACES)
    assert code == 0
    assert sorted(ran) == [(name, seed) for name in sorted(SURFACES) for seed in "01"]
    assert "≤ 1.5 × surface_sgd | 0.031 **miss** | 7 |" in lines(page)["surface_asynchronous"]
    assert "miss: python train.py experiment=surface_asynchronous" in capsys.readouterr().out
    assert "not run" in lines(page)["full_model"]
    assert page.rstrip().endswith("seeds 0, 1, with python 3.11.7, costate 0.1.0.")


def test_what_keeps_its_mark_is_no_miss(asked):
    code, page, _ = asked(Job(surface_sgd=0.02, surface_asynchronous=0.029), *SURFACES)
    assert code == 0
    assert "miss" not in lines(page)["surface_asynchronous"]


def test_the_others_go_on_after_a_failure_which_is_told_and_tried_again(asked):
    code, page, ran = asked(Job(surface_asynchronous=0.03), *SURFACES)
    assert code == 1
    assert len(ran) == 4
    assert "**failed**: the data are gone" in lines(page)["surface_sgd"]
    assert "0.03 |" in lines(page)["surface_asynchronous"], "without its reference nobody can say whether it is a miss"
    code, page, ran = asked(Job(surface_sgd=0.02), *SURFACES)
    assert code == 0
    assert ran == [("surface_sgd", "0"), ("surface_sgd", "1")]
    assert "failed" not in page


def test_only_what_has_ended_with_these_settings_and_this_version_is_left_alone(asked, monkeypatch):
    job = Job(surface_sgd=0.02)
    assert len(asked(job, "surface_sgd")[2]) == 2
    assert len(asked(job, "surface_sgd")[2]) == 2
    settings = running.settings
    monkeypatch.setattr(running, "settings", lambda *words: {**settings(*words), "epochs": 61})
    assert len(asked(job, "surface_sgd")[2]) == 4
    monkeypatch.setattr(running, "version", lambda name: "0.2.0")
    assert len(asked(job, "surface_sgd")[2]) == 6


def test_a_run_that_was_stopped_begins_anew(asked, tmp_path, monkeypatch):
    def stopped(folder, *overrides):
        (folder / "config.yaml").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "run", stopped)
    run = Run(ROW, 0, tmp_path / "runs")
    with pytest.raises(KeyboardInterrupt):
        run.perform()
    assert run.result() == Result()
    assert len(asked(Job(surface_sgd=0.02), "surface_sgd")[2]) == 2
    assert not (run.folder / "config.yaml").exists()


def test_what_is_no_run_of_ours_is_not_removed(tmp_path):
    run = Run(ROW, 0, tmp_path)
    run.folder.mkdir(parents=True)
    (run.folder / "notes").touch()
    with pytest.raises(ValueError, match="holds something that is no run of an experiment"):
        run.perform()
    assert (run.folder / "notes").exists()


def test_an_unknown_name_is_answered_in_one_sentence(capsys):
    assert main(["surface_sdg"]) == 2
    assert capsys.readouterr().err.startswith("surface_sdg: no such experiment; there are antisymmetric_mnist, ")


@pytest.mark.parametrize(
    ("mark", "value", "reference", "missed"),
    [
        (Mark("test/accuracy", ">=", 0.98), 0.98, None, False),
        (Mark("test/accuracy", ">=", 0.98), 0.9799, None, True),
        (Mark("test/mse", "<=", 1.5, "x"), 0.3, 0.2, False),
        (Mark("test/mse", "<=", 1.5, "x"), 0.31, 0.2, True),
        (Mark("test/mse", "<=", 1.5, "x"), float("nan"), 0.2, True),
        (Mark("test/mse", "<=", 1.5, "x"), 0.3, None, None),
    ],
)
def test_marks(mark, value, reference, missed):
    assert mark.missed(value, reference) is missed


def test_the_theoretical_fit_has_the_slowest_stage_in_place_of_all():
    serial = {"fit_seconds": 100.0, "series_seconds": 80.0, "theoretical_seconds": 44.0}
    rows = read(CONF / "experiment" / "distributed_sg.yaml").rows
    results = dict(zip(rows, ([Result({"fit_seconds": 70.0})], [Result(serial)]), strict=True))
    assert lines(claims.speed(results))["distributed_sg"].endswith("| 100 | 80 | 44 | 64 | 70 | 1.56 | 1.43 |")
    assert claims.speed({rows[0]: [Result()]}) == ""


def test_errors_stand_beside_the_papers():
    rows = read(CONF / "experiment" / "dni_table_mnist.yaml").rows
    results = {row: [Result({"test/accuracy": 0.9})] for row in rows if "method=none" in row.overrides}
    page = lines(claims.dni_table(results))
    assert page["none"] == "| none | 10.0 (9.3) | 10.0 (12.6) | 10.0 (16.2) | 10.0 (21.4) |"
    assert page["cDNI (sg, conditioned)"].endswith("— (1.6) |")
    assert claims.dni_table({row: [Result()] for row in rows}) == ""


def test_seeds_are_gathered():
    found = [Result({"test/accuracy": x}) for x in (0.98, 0.99)] + [Result(error="a | b")]
    assert table.score(found) == "98.50 ± 0.71 % (n = 2) **failed**: a \\| b"
