"""The report for W&B is composed without a network, of numbers that runs have."""

import json

import pytest
import yaml

from composing import CONF, config
from costate.reports import dashboard
from running import QUIET, SMALL, fit

pytest.importorskip("wandb_workspaces")
from wandb.errors import UsageError


@pytest.fixture
def panels(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["dashboard", "--to", str(tmp_path / "report.json")])
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert dashboard.main() == 0
    (grid,) = [b for b in json.loads((tmp_path / "report.json").read_text())["blocks"] if b["type"] == "panel-grid"]
    return grid["metadata"]["panelBankSectionConfig"]["panels"]


def test_panels_compare_by_method_and_do_not_lie_on_each_other(panels):
    grouped = [panel["config"]["groupBy"] for panel in panels if "groupBy" in panel["config"]]
    assert len(grouped) == len(dashboard.LINES) + len(dashboard.BARS) + 1
    # As W&B keeps settings: the value of `labels`, and in it the method.
    assert {key.removeprefix("config:") for key in grouped} == {"labels.value.method"}
    assert "method" in config().labels
    places = {(panel["layout"]["x"], panel["layout"]["y"]) for panel in panels}
    assert len(places) == len(panels)


def test_what_it_draws_is_what_runs_log(tmp_path):
    folder = fit(tmp_path, *SMALL, *QUIET, "epochs=1", "callbacks=[throughput,gradient_norms]")
    logged = set(folder.metrics.read_text().splitlines()[0].split(",")) | folder.results().keys()
    for _, x, metric, _ in dashboard.LINES:
        assert {x, metric} <= logged | {"Step"}
    assert {metric for _, metric in dashboard.BARS} <= logged


def test_without_a_key_it_says_what_to_do(monkeypatch, capsys):
    def no_key():
        raise UsageError("No API key configured. Use `wandb login` to log in.")

    # W&B's own client looks for a server first, which takes long where there is none.
    monkeypatch.setattr("wandb.Api", no_key)
    monkeypatch.setattr("sys.argv", ["dashboard"])
    assert dashboard.main() == 1
    told = capsys.readouterr().err
    assert "wandb login, or --to FILE." in told
    assert "Traceback" not in told


def test_a_search_by_wandb_does_not_choose_its_seed():
    sweep = yaml.safe_load((CONF / "wandb_sweep.yaml").read_text())
    assert sweep["method"] == "bayes"
    assert not [key for key in sweep["parameters"] if key.endswith("seed")]
    assert "seed=0" in sweep["command"]
