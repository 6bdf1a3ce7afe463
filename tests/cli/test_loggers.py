"""W&B and TensorBoard beside metrics.csv: without an account, without a network, a run of theirs for each of ours."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.loggers.logger import DummyLogger

from composing import CONF, config
from costate.config.schema import check
from costate.training import wandb_run
from running import QUIET, SMALL, command, fit, refusal

pytest.importorskip("wandb")

KEYLESS = {"WANDB_API_KEY": "", "WANDB_SILENT": "true"}


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """Neither a key nor a place to look for one; artifacts that wait for an upload lie in the test's folder."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))


def offline(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.wandb"))


def inspect(path: Path, *words: str) -> Any:
    """What W&B's own reader finds in a file."""
    words = ("-m", "wandb", "leet", "inspect", "--json", *words, str(path))
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout


def begun(path: Path) -> dict[str, Any]:
    """The record of a run's beginning: its name, group, job type, tags and settings."""
    records = (json.loads(line) for line in inspect(path).splitlines())
    return next(record["run"] for record in records if "run" in record)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """Two jobs in one process."""
    path = tmp_path_factory.mktemp("work")
    words = (*SMALL, *QUIET, "epochs=2", "logger=wandb", "logger.wandb.tags=[planar]", "hydra.sweep.dir=runs/today/now")
    done = command("-m", "method=backprop,sg", *words, cwd=path, NETRC=str(path / "netrc"), **KEYLESS)
    assert done.returncode == 0, done.stderr
    return path / "runs" / "today" / "now"


def test_two_jobs_of_a_sweep_are_two_runs(sweep):
    """Without `finish` the second job went on in the first one's run, under its name."""
    runs = {job: [begun(path) for path in offline(sweep / job)] for job in ("0", "1")}
    assert [len(found) for found in runs.values()] == [1, 1]
    backprop, sg = runs["0"][0], runs["1"][0]
    assert backprop["run_id"] != sg["run_id"]
    for run, method in ((backprop, "backprop"), (sg, "sg")):
        more = "train=96 batch_size=16 width=8 depth=4 epochs=2"
        assert run["display_name"] == f"verlet {method} ellipse {more} seed 0"
    assert (backprop["job_type"], sg["job_type"]) == ("backprop", "sg")
    for run in (backprop, sg):
        assert (run["run_group"], run["tags"], run["project"]) == ("today/now", ["planar"], "costate")


def test_the_offline_file_holds_settings_metrics_and_summary(sweep):
    for job in ("0", "1"):
        (path,) = offline(sweep / job)
        saved = yaml.safe_load((sweep / job / "config.yaml").read_text())
        kept = begun(path)["config"]["update"]
        assert {name: kept[name] for name in saved} == saved
        results = json.loads((sweep / job / "summary.json").read_text())
        summary = json.loads(inspect(path, "--summary"))
        assert summary["state"] == "finished"
        values = summary["summary"]
        for name in ("test/accuracy", "val/accuracy", "train/loss", "parameters", "stage/0/gradient_norm"):
            assert values[name] == pytest.approx(results[name]), name


def test_the_history_is_that_of_metrics_csv(sweep):
    (path,) = offline(sweep / "1")
    items = [json.loads(line).get("history", {}).get("item", {}) for line in inspect(path).splitlines()]
    told = [(item["trainer/global_step"], item["val/loss"]) for item in items if "val/loss" in item]
    with (sweep / "1" / "metrics.csv").open() as file:
        rows = [(int(row["step"]), float(row["val/loss"])) for row in csv.DictReader(file) if row["val/loss"]]
    assert len(rows) == 2
    assert told == rows


def test_methods_share_their_metric_names(sweep):
    names = [set(json.loads((sweep / job / "summary.json").read_text())) for job in ("0", "1")]
    assert {name for name in names[0] ^ names[1] if not name.startswith("boundary/")} == set()


def test_a_resumed_run_goes_on_in_the_same_wandb_run(tmp_path):
    words = (*SMALL, *QUIET, "logger=wandb", "annealing=constant")
    fit(tmp_path / "run", *words, "epochs=1")
    fit(tmp_path / "run", f"resume={tmp_path / 'run'}", "epochs=2")
    runs = [begun(path) for path in offline(tmp_path / "run")]
    assert len(runs) == 2
    assert runs[0]["run_id"] == runs[1]["run_id"]


def test_a_failed_job_is_a_failed_run_and_the_next_one_starts_afresh(tmp_path):
    words = (*SMALL, *QUIET, "logger=wandb", "epochs=1")
    with pytest.raises(ValueError, match="invalid literal"):
        fit(tmp_path / "a", *words, "+callbacks.surprise._target_=alarm.Surprise")
    fit(tmp_path / "b", *words)
    states = [json.loads(inspect(*offline(tmp_path / name), "--summary"))["state"] for name in ("a", "b")]
    assert states[0] != "finished" == states[1]


def test_without_a_network_a_key_does_not_make_a_run_fail(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb_run, "PATIENCE", 1)
    fit(tmp_path / "run", *SMALL, *QUIET, "logger=wandb", "epochs=1")
    assert "W&B cannot be reached, the run goes on offline" in capsys.readouterr().out
    (path,) = [path for path in offline(tmp_path) if "offline-run" in str(path)]
    assert json.loads(inspect(path, "--summary"))["state"] == "finished"


@pytest.mark.parametrize(
    ("key", "wish", "told", "mode"),
    [
        ("0" * 40, "auto", "", "online"),
        ("", "auto", "", "offline"),
        ("", "online", "", "offline"),
        ("0" * 40, "offline", "", "offline"),
        ("0" * 40, "auto", "offline", "offline"),
        ("0" * 40, "online", "disabled", "disabled"),
        ("", "auto", "online", "offline"),
    ],
)
def test_online_where_there_is_a_key_and_nobody_says_otherwise(monkeypatch, key, wish, told, mode):
    monkeypatch.setenv("WANDB_API_KEY", key)
    if told:
        monkeypatch.setenv("WANDB_MODE", told)
    assert wandb_run._mode(wish) == mode


def test_a_key_in_netrc_is_one(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {'0' * 40}\n")
    assert wandb_run._mode("auto") == "online"


def test_ranks_other_than_the_first_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    node = {key: value for key, value in check(config("logger=wandb")).logger.wandb.items() if key != "_target_"}
    node["tags"] = list(node["tags"])
    assert isinstance(wandb_run.wandb(tmp_path, 0, {}, **node), DummyLogger)
    assert list(tmp_path.iterdir()) == []


def test_artifacts_are_logged_where_the_settings_ask_for_them(tmp_path):
    fit(tmp_path / "run", *SMALL, *QUIET, "logger=wandb", "epochs=1", "logger.wandb.checkpoint=true")
    (path,) = offline(tmp_path / "run")
    records = [json.loads(line) for line in inspect(path).splitlines()]
    (artifact,) = [
        r["request"]["log_artifact"]["artifact"] for r in records if "log_artifact" in r.get("request", {})
    ] or [r["artifact"] for r in records if "artifact" in r]
    assert artifact["type"] == "model"
    assert "best.ckpt" in json.dumps(artifact)


@pytest.mark.parametrize("logger", ["tensorboard", "[csv,wandb]", "[wandb,tensorboard]"])
def test_loggers_come_one_by_one_and_several_at_once_and_always_on_top_of_csv(logger):
    nodes = check(config(f"logger={logger}")).logger
    assert set(nodes) == {"csv", *logger.strip("[]").split(",")}


def test_tensorboard_reads_what_was_logged_and_nothing_twice_after_resuming(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = (*SMALL, *QUIET, "logger=tensorboard", "annealing=constant")
    folder = fit(tmp_path, *words, "epochs=1")
    fit(tmp_path, f"resume={tmp_path}", "epochs=2")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    with folder.metrics.open() as file:
        rows = [int(row["step"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert [event.step for event in events.Scalars("val/loss")] == rows


def test_the_sweep_for_wandb_names_settings_that_compose():
    sweep = yaml.safe_load((CONF / "wandb_sweep.yaml").read_text())
    assert "${args_no_hyphens}" in sweep["command"]
    fixed = [word for word in sweep["command"] if not word.startswith("${")]
    first = [f"{k}={v['values'][0] if 'values' in v else v['min']}" for k, v in sweep["parameters"].items()]
    assert OverridesParser.create().parse_overrides([*fixed, *first])
    cfg = check(config(*fixed, *first))
    assert sweep["metric"]["name"] == "val/loss"
    assert "wandb" in cfg.logger


@pytest.mark.parametrize("mode", ["offline", "online"])
@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("logger.wandb.project=a/b", "Invalid project name 'a/b': cannot contain characters"),
        ("logger.wandb.project=" + "x" * 200, "Invalid project name"),
        ("logger.wandb.tags=[" + "x" * 65 + "]", "Tags must be between 1 and 64 characters"),
    ],
)
def test_what_wandb_refuses_is_a_sentence(tmp_path, mode, setting, told):
    words = (*SMALL, *QUIET, "logger=wandb", f"logger.wandb.mode={mode}", setting)
    reason = refusal(tmp_path, *words)
    assert reason.startswith("logger.wandb: W&B does not take these settings: ")
    assert told in reason
    assert "\n" not in reason


def test_wandb_has_one_row_a_batch_with_the_learning_rate_in_it(sweep):
    """Each callback wrote a row of its own: a batch had five."""
    (path,) = offline(sweep / "1")
    items = [json.loads(line).get("history", {}).get("item", {}) for line in inspect(path).splitlines()]
    steps = [item["trainer/global_step"] for item in items if "trainer/global_step" in item]
    assert len(steps) == len(set(steps)) > 1
    rates = [item["learning_rate"] for item in items if "learning_rate" in item]
    assert len(set(rates)) > 1, "it is annealed"


def test_wandb_has_the_least_loss_and_the_epoch_that_was_tested(sweep):
    (path,) = offline(sweep / "1")
    with (sweep / "1" / "metrics.csv").open() as file:
        losses = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    values = json.loads(inspect(path, "--summary"))["summary"]
    assert values["val/loss"] == pytest.approx(min(losses))
    assert values["best_epoch"] in (1, 2)


def test_pictures_are_pictures_in_wandb_and_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("matplotlib")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ("data=surface", "data.train=64", "data.validation=20", "data.test=20", "arch=mlp", "arch.widths=[4]")
    fit(tmp_path, *words, *QUIET, "epochs=1", "callbacks=surface_pictures", "logger=[wandb,tensorboard]")
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    (image,) = events.Images("surface")
    assert (image.width, image.height) > (100, 100)
    assert len(list(tmp_path.glob("wandb/**/media/images/surface*.png"))) == 1
    (path,) = offline(tmp_path)
    items = [json.loads(line).get("history", {}).get("item", {}) for line in inspect(path).splitlines()]
    assert [item for item in items if str(item.get("surface._type", "")).startswith("images")]
