"""Run folders."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from composing import config
from costate.config.schema import SettingError
from costate.reports.sweep import SweepTable, read
from costate.runs import RunFolder, TakenError, fresh
from costate.runs.folder import note
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
def test_only_what_is_empty_and_was_made_for_the_run_is_removed(tmp_path, place):
    (tmp_path / "runs" / "today").mkdir(parents=True)
    folder = RunFolder(tmp_path / "runs" / "today" / "now" / place)
    note(folder.path)
    folder.path.mkdir(parents=True)
    with folder.lock():
        pass
    folder.discard()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["runs", "today"]


def test_a_folder_that_was_there_stays_with_all_that_is_in_it(tmp_path):
    """hydra.run.dir=. removed an empty working directory."""
    note(tmp_path)
    (tmp_path / "run.lock").touch()
    with RunFolder(tmp_path).lock():
        pass
    RunFolder(tmp_path).discard()
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_what_holds_something_stays(tmp_path):
    folder = RunFolder(tmp_path / "run")
    note(folder.path)
    folder.path.mkdir()
    (folder.path / "file").touch()
    folder.discard()
    assert (folder.path / "file").exists()


def test_a_run_has_no_results_before_its_end_nor_after_a_new_beginning(tmp_path):
    folder = RunFolder(tmp_path / "run", ["seed=1"])
    assert folder.results() == {}
    folder.end({"test/accuracy": 0.5})
    assert folder.results() == {"test/accuracy": 0.5, "overrides": ["seed=1"]}
    folder.begin(OmegaConf.create({"seed": 1}), OmegaConf.create())
    assert folder.results() == {}
    assert OmegaConf.load(folder.config) == {"seed": 1}


def test_a_folder_is_named_as_a_user_would_type_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(RunFolder("runs/now")) == "runs/now"
    assert str(RunFolder(tmp_path.parent)) == str(tmp_path.parent)


def begun(path, **settings):
    """A run that has a checkpoint."""
    folder, cfg = RunFolder(path), OmegaConf.create({"seed": 1, "epochs": 2, "callbacks": {}, **settings})
    folder.begin(cfg, cfg)
    folder.checkpoints.mkdir()
    (folder.checkpoints / "last.ckpt").touch()
    return folder, cfg


def test_the_command_of_a_run_goes_on_with_it_and_another_one_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    assert not folder.goes_on(OmegaConf.create({"seed": 1}))
    folder, cfg = begun(tmp_path, data={"root": "here", "download": True, "rows": 3})
    moved = OmegaConf.merge(cfg, {"data": {"root": "there"}})
    assert folder.goes_on(cfg)
    assert folder.goes_on(moved)
    assert folder.kept(moved) == moved
    with pytest.raises(SettingError, match=f"^{tmp_path} holds a run: go on with it by resume={tmp_path}, or choose"):
        folder.goes_on(OmegaConf.merge(cfg, {"data": {"rows": 4}}))
    folder.origin.unlink()
    with pytest.raises(SettingError, match="holds a run"):
        folder.goes_on(cfg)


def test_the_command_of_a_run_goes_on_with_it_where_its_classes_are_today(tmp_path):
    """When files were merged, a sweep that was given once more was another one's."""
    folder, cfg = begun(tmp_path, method={"_target_": "costate.methods.backprop.NoBprop"})
    early = folder.origin.read_text()
    folder.origin.write_text(early.replace("backprop.NoBprop", "before.NoBprop"))
    assert folder.goes_on(cfg)
    folder.origin.write_text(early.replace("backprop.NoBprop", "before.Gone"))
    with pytest.raises(SettingError, match="holds a run"):
        folder.goes_on(cfg)


def test_a_run_of_before_there_was_a_switch_is_the_same_run_with_it_off(tmp_path):
    """A new setting with a default, and the command of yesterday's run was another one's."""
    folder, cfg = begun(tmp_path)
    for switch in ("compile", "channels_last"):
        assert folder.goes_on(OmegaConf.merge(cfg, {switch: False}))
        with pytest.raises(SettingError, match="holds a run"):
            folder.goes_on(OmegaConf.merge(cfg, {switch: True}))


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_again(tmp_path):
    folder, cfg = begun(tmp_path)
    (folder.checkpoints / "last.ckpt").unlink()
    assert not folder.goes_on(cfg)


def test_without_its_last_checkpoint_a_run_does_not_begin_again_by_itself(tmp_path, monkeypatch):
    """It did, over its old metrics."""
    monkeypatch.chdir(tmp_path)
    folder, cfg = begun(tmp_path / "a run")
    assert not folder.is_finished(cfg)
    (folder.checkpoints / "last.ckpt").rename(folder.checkpoints / "best.ckpt")
    with pytest.raises(SettingError) as told:
        folder.is_finished(cfg)
    command = re.search("cp .*ckpt'", str(told.value)).group()
    subprocess.run(command, shell=True, check=True)
    assert not folder.is_finished(cfg)
    for path in folder.checkpoints.iterdir():
        path.unlink()
    with pytest.raises(SettingError, match="start a new run, without resume="):
        folder.is_finished(cfg)


def test_a_run_is_finished_after_its_epochs_or_where_it_was_stopped_early(tmp_path):
    folder, cfg = begun(tmp_path, epochs=60)
    folder.end({"epochs": 8})
    assert folder.is_finished(cfg)
    assert not folder.is_finished(OmegaConf.merge(cfg, {"callbacks": {"lines": 1}}))
    assert folder.is_finished(OmegaConf.merge(cfg, {"epochs": 8}))
    assert not folder.is_finished(OmegaConf.merge(cfg, {"epochs": 80}))
    with pytest.raises(SettingError, match=r"^epochs=7 is less than the 8 that"):
        folder.is_finished(OmegaConf.merge(cfg, {"epochs": 7}))
    folder.end({"epochs": 8, "error": "killed"})
    assert not folder.is_finished(cfg)


def test_a_run_is_trained_by_one_process_and_its_lock_dies_with_it(tmp_path):
    folder, _ = begun(tmp_path)
    body = (
        f"from costate.runs import RunFolder\nwith RunFolder({str(tmp_path)!r}).lock(): print(0, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", body], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"0\n"
        with pytest.raises(SettingError, match="is being trained by another process"), folder.lock():
            pass
        holder.kill()
    with folder.lock():
        pass


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_checkpoint_in_place_of_its_run_is_refused_with_the_run(tmp_path, name):
    folder, cfg = begun(tmp_path)
    with pytest.raises(SettingError, match=rf"no run is there .*: resume={tmp_path}\.$"):
        RunFolder(folder.checkpoints / name).saved(cfg)
    (folder.checkpoints / name).touch()
    assert fresh(str(folder.checkpoints / name), "", "", "") == str(folder.checkpoints)


def test_of_a_sweep_it_is_said_how_to_go_on(tmp_path):
    folder = tmp_path / "0"
    folder.mkdir()
    (folder / "job.json").write_text("{}")
    again = f"give the same command once more with hydra.sweep.dir={tmp_path}: it leaves alone what has ended."
    assert RunFolder(folder).advice == f"To go on with the sweep, {again}"
    with pytest.raises(SettingError, match="a sweep is there, of several runs") as told:
        RunFolder(tmp_path).saved(OmegaConf.create())
    assert str(told.value).endswith(again)
    (tmp_path / "study.db").touch()
    with pytest.raises(SettingError, match=f"to go on, python -m costate.search --folder {tmp_path}"):
        RunFolder(tmp_path).saved(OmegaConf.create())


def test_data_may_have_moved_when_a_run_is_resumed(tmp_path, monkeypatch):
    """`data.root cannot change when a run is resumed`, after advice to change it."""
    old = {"root": "old", "cache": "old", "download": True}
    _, cfg = begun(tmp_path, data=old)
    now = OmegaConf.create({"data": {"root": "new"}})
    assert RunFolder(tmp_path, ["++data.root=new"]).saved(now).data == old | {"root": "new"}
    monkeypatch.setenv("COSTATE_DATA", "told")
    assert RunFolder(tmp_path).saved(now).data == old | {"root": "told"}
    named = RunFolder(tmp_path / "named", ["data.root=old"])
    named.begin(cfg, cfg)
    assert RunFolder(named.path).saved(now).data.root == "old", "by its own command line"


def test_a_folder_of_pictures_is_the_data_and_no_place_of_them(tmp_path, monkeypatch):
    """data.root=flowers in the folder of a run on cats: `has finished its 3 epochs`, with the numbers of the cats."""
    cats = config("data=folder", "data.root=cats")
    folder = RunFolder(tmp_path)
    folder.begin(cats, cats)
    folder.end({"epochs": cats.epochs})
    assert folder.goes_on(config("data=folder", "data.root=cats", "data.cache=elsewhere"))
    with pytest.raises(TakenError, match="holds a run"):
        folder.goes_on(config("data=folder", "data.root=flowers"))
    monkeypatch.setenv("COSTATE_DATA", "mnist")
    now = OmegaConf.create({"data": {"root": "moved"}})
    assert RunFolder(tmp_path).saved(now).data.root == "cats", "the variable is of data that can be downloaded"
    assert RunFolder(tmp_path, ["++data.root=moved"]).saved(now).data.root == "moved"


def sweep(folder, overrides, number=0):
    """What Hydra tells of a job of a sweep."""
    hydra = {
        "mode": RunMode.MULTIRUN,
        "sweep": {"dir": str(folder)},
        "runtime": {"output_dir": str(folder / str(number))},
        "job": {"num": number},
        "overrides": {"task": overrides},
    }
    return OmegaConf.create({"hydra": hydra})


def test_a_sweep_marks_its_own_jobs_and_leaves_all_others_alone(tmp_path):
    """hydra.sweep.dir=. removed every job.json below, whosever it was."""
    others = {"deep/er/job.json": '{"name": "backup"}', "1/job.json": "[]"}
    for name, text in others.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    begun(tmp_path / "2")
    (tmp_path / "2" / "job.json").write_text('{"number": 2, "overrides": ["seed=9"]}')
    table = SweepTable()
    table.on_multirun_start(sweep(tmp_path, []))
    for number in range(3):
        (tmp_path / str(number)).mkdir(exist_ok=True)
        table.on_job_start(sweep(tmp_path, [f"seed={number}"], number))
    assert {name: (tmp_path / name).read_text() for name in others} == others
    assert [job.settings for job in read(tmp_path, table.sweep)] == [{"seed": "0"}]
    assert [job.settings for job in read(tmp_path)] == [{"seed": "0"}, {"seed": "9"}]


def test_a_sweep_that_is_given_again_takes_up_its_jobs(tmp_path):
    tables = [SweepTable(), SweepTable()]
    for table in tables:
        table.on_multirun_start(sweep(tmp_path, []))
        (tmp_path / "0").mkdir(exist_ok=True)
        table.on_job_start(sweep(tmp_path, ["seed=0"]))
        if not (tmp_path / "0" / "config.yaml").exists():
            begun(tmp_path / "0")
    assert [len(read(tmp_path, table.sweep)) for table in tables] == [0, 1]


def test_a_sweep_sent_into_the_folder_of_another_leaves_its_numbers_alone(tmp_path):
    """Each job was refused, and the refusal written over the summary of the run that was there."""
    first = RunFolder(tmp_path / "sweep" / "0")
    first.begin(OmegaConf.create({"seed": 0}), OmegaConf.create())
    first.end({"test/accuracy": 0.97})
    ended = command("-m", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}", cwd=tmp_path)
    assert ended.returncode == 2
    assert "holds a run" in ended.stderr
    assert first.results()["test/accuracy"] == 0.97
    assert not (tmp_path / "sweep" / "1").exists()
