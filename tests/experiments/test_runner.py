"""The runner, with jobs that cost nothing: misses, failures, and what is not run twice."""

import json
import re
import time
from pathlib import Path
from threading import Barrier

import pytest

from costate.experiments import rows, table
from costate.experiments.__main__ import main
from costate.experiments.rows import ORDER, Experiment, Mark, Result, Row, Run
from costate.runs import program

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


class Crowded(Job):
    """Runs of surface_sgd wait for each other, two by two; counts how many runs are at work at a time."""

    def __init__(self, **scores: float):
        super().__init__(**scores)
        self.working, self.beside, self.pair = 0, dict.fromkeys(scores, 0), Barrier(2, timeout=60)

    def __call__(self, folder: Path, *overrides: str) -> None:
        name = overrides[0].partition("=")[2]
        self.working += 1
        if name == "surface_sgd":
            self.pair.wait()
        else:
            time.sleep(0.1)
        self.beside[name] = max(self.beside[name], self.working)
        self.working -= 1
        super().__call__(folder, *overrides)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Runs `python -m costate.experiments` for the surfaces, on such jobs; returns the exit code, RESULTS.md and what
    was run.
    """

    def run(job: Job, *words: str):
        monkeypatch.setattr(program, "run", job)
        out = tmp_path / "out" / "RESULTS.md"
        code = main(["--seeds", "0,1", "--runs", str(tmp_path / "runs"), "--out", str(out), *words])
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
    settings = rows.settings
    monkeypatch.setattr(rows, "settings", lambda *words: {**settings(*words), "epochs": 61})
    assert len(asked(job, "surface_sgd")[2]) == 4
    monkeypatch.setattr(rows, "version", lambda name: "0.2.0")
    assert len(asked(job, "surface_sgd")[2]) == 6


def test_a_run_is_not_done_again_for_a_class_that_stands_elsewhere_by_now(asked, tmp_path):
    job = Job(surface_sgd=0.02)
    asked(job, "surface_sgd")
    order = Run(ROW, 0, tmp_path / "runs").folder / ORDER
    now = order.read_text()
    for place, count in (("training.before.", 2), ("training.before.Gone", 3)):
        order.write_text(now.replace("training.optimizers.", place))
        assert order.read_text() != now
        assert len(asked(job, "surface_sgd")[2]) == count


def test_seeds_that_were_run_before_stay_in_the_table(asked):
    """A run of seed 0 alone once wrote a table of seed 0 alone, for all experiments."""
    scores = Job(surface_sgd=0.02, surface_asynchronous=0.03)
    _, page, _ = asked(scores, *SURFACES)
    assert "seeds 0, 1, with" in page
    _, page, ran = asked(scores, "surface_sgd", "--seeds", "2")
    assert ran[4:] == [("surface_sgd", "2")]
    assert page.rstrip().endswith("seeds 0, 1, 2, with python 3.11.7, costate 0.1.0.")
    assert "| 0.02 | 7 |" in lines(page)["surface_sgd"]
    assert "| 0.03 (n = 2) | 7 |" in lines(page)["surface_asynchronous"]


def test_runs_of_a_seed_that_was_not_asked_for_and_has_not_ended_are_no_part_of_it(asked):
    asked(Job(), "surface_sgd", "--seeds", "5")
    _, page, _ = asked(Job(surface_sgd=0.02), "surface_sgd")
    assert "| 0.02 | 7 |" in lines(page)["surface_sgd"]


def test_runs_say_of_which_commit_they_are_and_are_not_done_again_for_another(asked, monkeypatch, tmp_path):
    job = Job(surface_sgd=0.02)
    monkeypatch.setattr(rows, "commit", lambda: "abc1234+")
    assert ", commit abc1234+ (+: with changes to it), seeds 0, 1, " in asked(job, "surface_sgd")[1]
    order = Run(ROW, 0, tmp_path / "runs").folder / ORDER
    order.write_text(json.dumps({k: v for k, v in json.loads(order.read_text()).items() if k != "commit"}))
    monkeypatch.setattr(rows, "commit", lambda: "fff0000")
    _, page, ran = asked(job, "surface_sgd")
    assert len(ran) == 2
    assert ", commit abc1234+ and 1 of a commit that is not known (+: with changes to it), " in page


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    assert re.fullmatch(r"([0-9a-f]{7,}\+?)?", rows.commit())
    monkeypatch.setattr(rows, "CONF", tmp_path / "conf")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert rows.commit() == ""
    monkeypatch.setenv("PATH", "")
    assert rows.commit() == ""


def test_runs_of_one_process_are_side_by_side_and_those_of_several_come_last_and_alone(asked):
    job = Crowded(surface_sgd=0.02, surface_asynchronous=0.03)
    code, page, ran = asked(job, *SURFACES, "--jobs", "2")
    assert code == 0
    assert "failed" not in page
    assert [name for name, _ in ran] == ["surface_sgd"] * 2 + ["surface_asynchronous"] * 2
    assert job.beside == {"surface_sgd": 2, "surface_asynchronous": 1}


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


def test_seeds_are_gathered():
    found = [Result({"test/accuracy": x}) for x in (0.98, 0.99)] + [Result(error="a | b")]
    assert table.score(found) == "98.50 ± 0.71 % (n = 2) **failed**: a \\| b"


def test_what_takes_too_long_says_so():
    surface = Experiment("surface_sgd", "sgd.py", (ROW,))
    for seconds, told in ((900, "900"), (901, "901 **slow**")):
        assert table.rows([surface], {ROW: [Result({"fit_seconds": seconds})]}).endswith(f"| {told} |")


def test_a_run_without_a_score_has_ended_all_the_same():
    run = Run(ROW, 0, Path("runs"))
    assert rows.line(run, Result({"epochs": 1}), time.monotonic()) == "surface_sgd seed=0: ended in 0 s"
