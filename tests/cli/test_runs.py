"""Run folders."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from omegaconf import OmegaConf

from costate.runs import RunFolder, fresh
from costate.schema import SettingError
from running import command


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: fresh(None, str(tmp_path), "2025-01-31", "12-00-00"), range(16)))
    assert len(set(folders)) == 16
    assert {path.name for path in (tmp_path / "2025-01-31").iterdir()} == {
        "12-00-00",
        *(f"12-00-00-{n}" for n in range(2, 17)),
    }


def test_a_resumed_run_stays_where_it_is(tmp_path):
    assert fresh("runs/old", str(tmp_path), "2025-01-31", "12-00-00") == "runs/old"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["", "deep/er"])
def test_only_what_is_empty_and_below_the_working_directory_is_removed(tmp_path, monkeypatch, place):
    here = tmp_path / "here"
    (here / "runs" / "today" / "now").mkdir(parents=True)
    (here / "runs" / "kept").touch()
    monkeypatch.chdir(here)
    (here / "runs" / "today" / "now" / place).mkdir(parents=True, exist_ok=True)
    RunFolder(here / "runs" / "today" / "now" / place).discard()
    assert sorted(path.name for path in here.rglob("*")) == ["kept", "runs"]


@pytest.mark.parametrize("place", ["run", "../elsewhere/run"])
def test_neither_the_working_directory_nor_another_is_removed(tmp_path, monkeypatch, place):
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folder = (tmp_path / "here" / place).resolve()
    folder.mkdir()
    RunFolder(folder).discard()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "here"]


def test_what_holds_something_stays(tmp_path):
    (tmp_path / "file").touch()
    RunFolder(tmp_path).discard()
    assert (tmp_path / "file").exists()


def test_a_run_has_no_results_before_its_end_nor_after_a_new_beginning(tmp_path):
    folder = RunFolder(tmp_path / "run", ["seed=1"])
    assert folder.results() == {}
    folder.end({"test/accuracy": 0.5})
    assert folder.results() == {"test/accuracy": 0.5, "overrides": ["seed=1"]}
    folder.begin(OmegaConf.create({"seed": 1}))
    assert folder.results() == {}
    assert OmegaConf.load(folder.config) == {"seed": 1}


def test_a_folder_is_named_as_a_user_would_type_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(RunFolder("runs/now")) == "runs/now"
    assert str(RunFolder(tmp_path.parent)) == str(tmp_path.parent)


def test_a_new_run_does_not_write_over_an_old_one(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.claim()
    folder.begin(OmegaConf.create({"seed": 1}))
    with pytest.raises(SettingError, match=f"^{tmp_path} holds a run: go on with it by resume={tmp_path}, or choose"):
        folder.claim()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    folder.claim()


def test_a_sweep_sent_into_the_folder_of_another_leaves_its_numbers_alone(tmp_path):
    """Each job was refused, and the refusal written over the summary of the run that was there."""
    first = RunFolder(tmp_path / "sweep" / "0")
    first.begin(OmegaConf.create({"seed": 0}))
    first.end({"test/accuracy": 0.97})
    ended = command("-m", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}", cwd=tmp_path)
    assert ended.returncode == 2
    assert "holds a run" in ended.stderr
    assert first.results()["test/accuracy"] == 0.97
    assert not (tmp_path / "sweep" / "1").exists()
