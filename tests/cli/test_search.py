"""A search asks, runs and remembers: each trial is a run folder, and a search that was stopped goes on."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar
from unittest.mock import Mock

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher

from composing import CONF
from costate.runs import JOB, RunFolder

optuna = pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

from costate.search import study as studies  # noqa: E402
from costate.search.__main__ import main as search_main  # noqa: E402
from costate.search.study import (  # noqa: E402
    Search,
    Space,
    TrialError,
    TrialRun,
)
from running import SMALL  # noqa: E402


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("x=1,2", CategoricalDistribution(["1", "2"])),
        ("method/synthesizer=choice(linear,mlp)", CategoricalDistribution(["linear", "mlp"])),
        ("arch.widths=[8],[8,8]", CategoricalDistribution(["[8]", "[8,8]"])),
        ("x=interval(0.5,2)", FloatDistribution(0.5, 2.0)),
        ("x=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("x=range(1,8)", IntDistribution(1, 7)),
        ("x=range(4,17,4)", IntDistribution(4, 16, step=4)),
        ("x=tag(log,range(2,65))", IntDistribution(2, 64, log=True)),
    ],
)
def test_a_space_is_given_in_the_words_of_a_sweep(word, wanted):
    space = Space([word, "data=ellipse"])
    key = word.partition("=")[0]
    assert space.searched == {key: wanted}
    assert space.overrides({key: 3}) == ["data=ellipse", f"{key}=3"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data=ellipse"], "nothing to search"),
        (["x=glob(*)"], "x: x=glob(.*) cannot be searched"),
        (["x=tag(steep,interval(1,2))"], "tag steep is not known"),
        (
            ["x=range(0.5,2,0.5)"],
            r"^x: range\(0.5, 2, 0.5\) has to go up in integers: give interval",
        ),
        (["x=range(0.5,4)"], r"^x: range\(0.5, 4, 1\) has to go up in integers"),
        (["x=range(4,1,-1)"], r"^x: range\(4, 1, -1\) has to go up in integers"),
        (["x=interval(2,1)"], "x: "),
        (["x"], "x"),
    ],
)
def test_a_space_that_cannot_be_is_refused(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        Space(words)


class Stub:
    """In the place of a run: val/loss falls towards (x − 3)², epoch by epoch."""

    stop_at: int | None = None
    taken_up: ClassVar[list[int]] = []

    def __init__(self, folder: Path, number: int, overrides: list[str], metric: str):
        self.folder, self.number, self.overrides, self.metric = folder, number, overrides, metric

    def run(self, prune):
        if self.number == Stub.stop_at:
            Stub.stop_at = None
            raise KeyboardInterrupt
        Stub.taken_up.append(self.number)
        self.folder.mkdir(exist_ok=True)
        (self.folder / JOB).write_text(json.dumps({"number": self.number, "overrides": self.overrides}))
        x = float(self.overrides[-1].partition("=")[2])
        if x > 9:
            raise TrialError("x is too large")
        goal = (x - 3) ** 2
        for epoch in range(1, 5):
            if prune(epoch, goal + 1 / epoch):
                return None
        return goal


@pytest.fixture
def search(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "TrialRun", Stub)
    monkeypatch.setattr(Stub, "stop_at", None)
    monkeypatch.setattr(Stub, "taken_up", [])

    def make(*words: str, prune: bool = True, direction: studies.Direction = "minimize") -> Search:
        return Search(tmp_path / "s", list(words), metric="val/loss", direction=direction, prune=prune, seed=0)

    return make


def test_a_search_finds_prunes_and_survives_failures(search, tmp_path):
    found = search("x=interval(0,10)")
    found.run(40)
    states = [trial.state for trial in found.study.trials]
    assert len(states) == 40
    assert {TrialState.COMPLETE, TrialState.PRUNED} <= set(states) <= {*TrialState} - {TrialState.RUNNING}
    best, words = found.best()
    assert best < 0.1
    assert words == [f"x={found.study.best_trial.params['x']}"]
    assert len((tmp_path / "s" / "runs.csv").read_text().splitlines()) == 41


@pytest.mark.parametrize(("direction", "best"), [("minimize", min), ("maximize", max)])
def test_the_best_trial_is_the_least_or_the_greatest(search, direction, best):
    found = search("x=0,3,8", prune=False, direction=direction)
    found.run(6)
    values = {float(trial.params["x"]): trial.value for trial in found.study.trials}
    assert len(values) > 1
    assert found.best() == (best(values.values()), [f"x={best(values, key=values.__getitem__):g}"])


@pytest.mark.parametrize(
    ("words", "goal"),
    [
        ([], ("val/loss", "minimize")),
        (["--minimize", "test/mse"], ("test/mse", "minimize")),
        (["--maximize", "val/accuracy"], ("val/accuracy", "maximize")),
    ],
)
def test_the_command_searches_for_what_it_was_told(monkeypatch, words, goal):
    asked = []

    class Asked:
        def __init__(self, folder: Path, settings: list[str], **options: object):
            asked.append((options["metric"], options["direction"]))
            raise ValueError("seen enough")

    monkeypatch.setattr(studies, "Search", Asked)
    monkeypatch.setattr("sys.argv", ["search", "x=1,2", *words])
    assert search_main() == 2
    assert asked == [goal]


def test_a_stopped_search_takes_up_the_trial_that_it_left(search):
    Stub.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        search("x=interval(0,8)").run(4)
    search().run(4)
    assert Stub.taken_up == [0, 1, 2, 3]
    assert [trial.state for trial in search().study.trials] == [TrialState.COMPLETE] * 4


def test_a_trial_that_another_process_runs_is_left_alone(search):
    one, two = search("x=interval(0,8)"), search()
    with one._next(2) as first, two._next(2) as second:
        assert (first.number, second.number) == (0, 1)
        with search()._next(2) as third:
            assert third is None


@pytest.mark.parametrize("name", ["a?b", "{a}%20#", "it's, a=b"])
def test_a_study_is_in_its_folder_whatever_that_is_called(search, tmp_path, name):
    folder = tmp_path / name
    for words in (["x=interval(0,8)"], []):
        Search(folder, words, metric="val/loss", direction="minimize", prune=True, seed=0).run(1)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (folder / "study.db").exists()


@pytest.mark.parametrize("begun", [False, True])
def test_a_trial_is_told_its_folder_in_words_that_hydra_reads(tmp_path, begun):
    folder = tmp_path / "it's, a=b"
    (folder / "checkpoints").mkdir(parents=True)
    if begun:
        (folder / "checkpoints" / "last.ckpt").touch()
    words = OverridesParser.create().parse_overrides(TrialRun(folder, 0, ["seed=1"], "val/loss")._words())
    told = {word.key_or_group: word.value() for word in words}
    assert str(told["resume" if begun else "hydra.run.dir"]) == str(folder)


def test_a_folder_holds_one_study(search):
    search("x=interval(0,8)")
    with pytest.raises(ValueError, match="choose another folder"):
        search("x=interval(0,9)")
    with pytest.raises(ValueError, match="holds no study"):
        Search(Path("nowhere"), [], metric="val/loss", direction="minimize", prune=True, seed=0)


def test_a_search_goes_on_as_it_was_begun(tmp_path, monkeypatch):
    """--folder alone, which an interruption advises, pruned what --no-pruning had begun, and made 20 trials of 4."""
    monkeypatch.setattr(studies, "TrialRun", Stub)
    monkeypatch.setattr(Stub, "stop_at", 2)
    made = []
    begin = Search.__init__
    monkeypatch.setattr(Search, "__init__", lambda own, *a, **options: (begin(own, *a, **options), made.append(own))[0])

    def command(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["search", *words, "--folder", str(tmp_path / "s")])
        return search_main()

    assert command("x=interval(0,8)", "--trials", "4", "--no-pruning", "--seed", "7") == 130
    assert command() == 0
    assert len(made[-1].study.trials) == 4
    assert command("--trials", "5", "--pruning") == 0
    assert [type(search.study.pruner).__name__ for search in made] == ["NopPruner", "NopPruner", "MedianPruner"]
    assert [search.study.user_attrs["seed"] for search in made] == [7, 7, 7]
    assert [search.trials for search in made] == [4, 4, 5]
    assert len(made[-1].study.trials) == 5


def test_a_first_command_that_cannot_be_leaves_no_study(search, tmp_path):
    """The next one, which could, was told that the folder holds another study."""
    with pytest.raises(ValueError, match="nothing to search"):
        search("data=ellipse")
    assert not (tmp_path / "s").exists()
    search("x=interval(0,8)")


def test_a_metric_that_no_run_has_ends_the_search_with_those_that_there_are(tmp_path, monkeypatch):
    """Every trial ran to its end, and had failed for the last line that it said."""
    told = "print('To look at it: ...')"
    results = {"val/loss": 0.5, "val/accuracy": 0.9, "epochs": 3}
    begun = []

    def start(words, log):
        begun.append(words)
        RunFolder(log.parent).end(results)
        return subprocess.Popen([sys.executable, "-c", told])

    monkeypatch.setattr(studies, "start", start)
    sentence = "summary.json has no accuracy; there are val/accuracy, val/loss: search in another --folder"
    for words in (["x=interval(0,8)"], []):
        wanted = Search(tmp_path, words, metric="accuracy", direction="maximize", prune=True, seed=0)
        with pytest.raises(ValueError, match=sentence):
            wanted.run(3)
    assert len(begun) == 1, "and what goes on with it says the same at once"


@pytest.mark.thorough
def test_a_trial_is_a_run_that_is_pruned_with_a_checkpoint(tmp_path):
    """The run itself, watched from outside: SIGTERM ends it between two batches."""
    words = [*SMALL, "epochs=500"]
    told: list[tuple[int, float]] = []

    def prune(epoch: int, value: float) -> bool:
        told.append((epoch, value))
        return epoch >= 2

    trial = TrialRun(tmp_path / "0", 0, words, "val/loss")
    assert trial.run(prune) is None
    assert [epoch for epoch, _ in told] == [1, 2]
    assert told == list(trial.epochs())[:2]
    assert (tmp_path / "0" / "checkpoints" / "last.ckpt").exists()
    assert "pruned" in json.loads((tmp_path / "0" / "summary.json").read_text())["error"]


def test_a_search_that_alone_is_told_to_stop_ends_its_run(tmp_path, monkeypatch):
    """`kill -INT` of the search waited for the end of the trial, and then said how to go on."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]) as sleeper:
        monkeypatch.setattr(studies, "start", lambda words, log: sleeper)
        monkeypatch.setattr(studies, "GRACE", 2)
        trial = TrialRun(tmp_path, 0, [], "val/loss")
        monkeypatch.setattr(trial, "epochs", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trial.run(lambda epoch, value: False)
        assert sleeper.poll() == -signal.SIGTERM, "which lets it save, and nothing harder"


@pytest.mark.thorough
def test_a_refused_trial_says_why(tmp_path):
    with pytest.raises(TrialError, match="stages=99 is more than"):
        TrialRun(tmp_path / "0", 0, [*SMALL, "stages=99"], "val/loss").run(lambda epoch, value: False)


@pytest.mark.parametrize(
    ("launcher", "package"), [("slurm", "submitit"), ("slurm_nodes", "submitit"), ("local", "joblib")]
)
def test_launchers_compose_to_what_their_plugins_take(launcher, package):
    pytest.importorskip(f"hydra_plugins.hydra_{package}_launcher")
    from hydra import compose, initialize_config_dir

    words = [f"hydra/launcher={launcher}", "hydra.sweep.dir=x"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", words, return_hydra_config=True)
    assert package in cfg.hydra.launcher._target_
    made = Plugins.instance()._instantiate(cfg.hydra.launcher)
    assert isinstance(made, Launcher)
    if package == "submitit":
        assert (made.params["timeout_min"], made.params["setup"]) == (240, ["export OMP_NUM_THREADS=1"])
        assert made.params["nodes"] == 1 + (launcher == "slurm_nodes")
