"""A report says what is in run folders, whatever became of the runs."""

import csv
import json
import re
from pathlib import Path
from statistics import stdev

import numpy as np
import pytest
import yaml

from costate.reports import style
from costate.reports.curves import band
from costate.reports.groups import baseline, grouped
from costate.reports.reading import find
from costate.reports.report import write
from costate.reports.table import WHERE_MEASURED, build
from running import QUIET, SMALL, fit

pytest.importorskip("matplotlib")


def run(folder: Path, arch: str, method: str, seed: int, accuracy: float, speed: float = 1000.0, **settings) -> Path:
    """What a run leaves behind."""
    folder.mkdir(parents=True)
    config = {
        "seed": seed,
        "epochs": 3,
        "stages": settings.pop("stages", 2),
        "arch": {"_target_": arch, "depth": settings.pop("depth", 8)},
        "method": {"_target_": method, **settings},
        "data": {"_target_": "costate.data.digits.Digits", "shuffle_seed": seed},
        "trainer": {"devices": 1},
        "labels": {"arch": arch, "method": method, "data": "digits"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    results = {"test/loss": 1.0, "test/accuracy": accuracy, "fit_seconds": 2.0, "samples_per_second": speed}
    (folder / "summary.json").write_text(json.dumps({**results, "parameters": 1234}))
    lines = [
        f"{step},{step // 4},{1 / (step + 1)},{accuracy},{0.5 if method == 'sg' else ''}" for step in range(3, 12, 4)
    ]
    names = "step,epoch,val/loss,val/accuracy,boundary/0/cosine"
    (folder / "metrics.csv").write_text("\n".join([names, *lines]) + "\n")
    return folder


@pytest.fixture
def runs(tmp_path) -> Path:
    place = tmp_path / "runs"
    for seed in (0, 1):
        run(place / f"a{seed}", "verlet", "backprop", seed, 0.98 + seed / 100)
        run(place / f"b{seed}", "verlet", "sg", seed, 0.95 + seed / 100, speed=1500)
    run(place / "c", "mlp", "sg", 0, 0.9)
    return place


def test_seeds_are_one_row_and_the_gap_is_to_backprop_on_the_same_network(runs, tmp_path):
    out = write([runs], tmp_path / "report")
    mlp, backprop, sg = csv.DictReader((out / "table.csv").open())
    assert [(row["arch"], row["method"], row["seeds"]) for row in (mlp, backprop, sg)] == [
        ("mlp", "sg", "1"),
        ("verlet", "backprop", "2"),
        ("verlet", "sg", "2"),
    ]
    assert (mlp["gap"], backprop["gap"]) == ("", "")
    assert float(sg["gap"]) == pytest.approx(-3.0)
    assert float(sg["speed_up"]) == pytest.approx(1.5)
    assert float(sg["test/accuracy std"]) == pytest.approx(0.01 / 2**0.5)
    assert "| verlet | sg | digits | 2 | 95.50 ± 0.71 % | -3.00 | 2 | 1.50 | 1,234 |" in (out / "table.md").read_text()
    assert r"95.50 $\pm$ 0.71 \%" in (out / "table.tex").read_text()


def test_a_band_is_the_sample_deviation_of_seeds_where_all_have_a_value():
    seeds = [(np.array([1, 2, 3]), np.array([1.0, 4.0, 9.0])), (np.array([2, 3, 4]), np.array([6.0, 9.5, 0.0]))]
    x, middle, spread = band(seeds)
    assert x.tolist() == [2, 3]
    assert middle.tolist() == [5.0, 9.25]
    assert spread == pytest.approx([stdev([4, 6]), stdev([9, 9.5])])
    assert band(seeds[:1])[2].tolist() == [0.0] * 3


def test_what_methods_cost_is_in_the_table_where_it_was_measured(tmp_path):
    """Seconds until the validation score is within a point of backpropagation's best one; milliseconds; megabytes."""
    curves = {"backprop": (0.9, 0.975, 0.98), "none": (0.8, 0.85, 0.9), "sg": (0.8, 0.969, 0.972)}
    for method, scores in curves.items():
        folder = run(tmp_path / method, "verlet", method, 0, 0.9)
        assert not set(WHERE_MEASURED) & set(build(grouped(find([folder])[0]))[0])
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump(config | {"data": {**config["data"], "batch_size": 64}}))
        own = {"val/accuracy": scores[-1], "peak_bytes": 5e6, "flops_per_sample": 1.5e6, "stage/0/gradient_cosine": 0.5}
        results = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(results | own))
        lines = [f"{i},{score},{2.0 + i}" for i, score in enumerate(scores)]
        (folder / "metrics.csv").write_text("\n".join(["step,val/accuracy,fit_seconds", *lines]) + "\n")
    header, *rows = build(grouped(find([tmp_path])[0]))
    assert header[-5:] == list(WHERE_MEASURED)
    found = {row[1]: row[-5:] for row in rows}
    assert found == {
        "backprop": ["3", "64.00", "5.0", "1.5", "0.500"],
        "none": ["never", "64.00", "5.0", "1.5", "0.500"],
        "sg": ["4", "64.00", "5.0", "1.5", "0.500"],
    }


def test_a_multilevel_run_has_its_baseline_whatever_trains_its_coarse_levels(tmp_path):
    """The default there differs between a pipeline and one process: without this a pipeline's runs had no baseline."""
    for name, method, coarse in (("serial", "backprop", "backprop"), ("pipeline", "sg", "delayed")):
        folder = run(tmp_path / name, "verlet", method, 0, 0.9)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["levels"] = {"count": 3, "coarse_method": coarse}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    serial, pipeline = grouped(find([tmp_path])[0])
    assert (serial.label("method"), pipeline.label("method")) == ("backprop", "sg")
    assert baseline(pipeline, [serial, pipeline]) is serial
    assert serial.network == pipeline.network == "verlet", "what trains the coarse levels is no other network"


def test_another_depth_is_another_row_with_its_own_baseline(runs):
    run(runs / "d", "verlet", "sg", 0, 0.9, depth=16)
    run(runs / "e", "verlet", "backprop", 0, 0.91, depth=16, stages=4)
    groups = grouped(find([runs])[0])
    (deep,) = [g for g in groups if g.label("method") == "sg" and g.settings["arch.depth"] == 16]
    assert baseline(deep, groups).settings["arch.depth"] == 16, (
        "how backprop is cut does not matter, how deep it is does"
    )
    assert deep.network == "verlet, depth=16"


def test_figures_are_there_in_both_formats_and_the_page_needs_nothing_else(runs, tmp_path):
    out = write([runs], tmp_path / "report")
    names = {path.stem for path in out.glob("*.png")}
    assert {"loss_digits", "accuracy_digits", "gradients_digits", "speed_digits"} <= names
    assert {path.stem for path in out.glob("*.svg")} == names
    page = (out / "index.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == len(names)
    assert re.findall(r"(?:src|href)=\"?(?:https?:)?//", page) == []


def test_what_is_broken_or_unfinished_is_listed_and_stops_nothing(runs, tmp_path):
    for name in ("failed", "yaml", "summary"):
        run(runs / name, "verlet", "sg", 5, 0.5)
    (runs / "failed" / "summary.json").write_text(json.dumps({"error": "stages=99 <is> more"}))
    (runs / "yaml" / "config.yaml").write_text("a: [")
    (runs / "summary" / "summary.json").write_text("{")
    run(runs / "running", "verlet", "sg", 6, 0.5)
    (runs / "running" / "summary.json").unlink()
    run(runs / "torn", "verlet", "sg", 2, 0.96)
    with (runs / "torn" / "metrics.csv").open("a") as file:
        file.write("15,3,0.1,no\n\x00,\n17,")
    out = write([runs], tmp_path / "report")
    page, text = (out / "index.html").read_text(), (out / "table.md").read_text()
    for name, reason in (("failed", "stages=99"), ("yaml", "cannot be read"), ("running", "epoch 3 of 3")):
        assert re.search(rf"{name}`: .*{reason}", text)
    assert "stages=99 &lt;is&gt; more" in page
    assert "torn" not in text, "a torn line of metrics.csv is left out, and its run is not"


def test_a_report_replaces_a_report_and_nothing_else(runs, tmp_path):
    out = write([runs], tmp_path / "report")
    (out / "old.png").touch()
    write([runs], out)
    assert not (out / "old.png").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="choose another folder"):
        write([runs], tmp_path / "mine")
    with pytest.raises(ValueError, match="no run"):
        write([tmp_path / "mine"], tmp_path / "other")
    with pytest.raises(ValueError, match="no such folder"):
        write([tmp_path / "nowhere"], tmp_path / "other")


def test_networks_come_back_as_they_were_trained(tmp_path):
    """A rebuilt network has the test score of its run, and a planar run has figures of it."""
    from costate.reports.networks import load

    words = (
        *SMALL,
        *QUIET,
        "stages=2",
        "arch=leapfrog",
        "labels.arch=leapfrog",
        "labels.method=sg",
        "labels.data=ellipse",
    )
    folder = fit(tmp_path / "run", *words)
    network = load(folder.path)
    x, y = network.test(10**6)
    accuracy = (network(x).argmax(1) == y).float().mean().item()
    assert accuracy == pytest.approx(folder.results()["test/accuracy"])
    out = write([folder.path], tmp_path / "report")
    for name in ("regions", "features", "spectra", "robustness"):
        assert (out / f"{name}_ellipse.png").stat().st_size > 5000
    (folder.path / "checkpoints" / "best.ckpt").unlink()
    assert "cannot be rebuilt" in (write([folder.path], tmp_path / "report") / "index.html").read_text()


def test_many_lines_leave_the_panel_its_room_and_each_looks_like_no_other():
    """Twelve names once covered the panel that they were the legend of."""
    names = [f"method {i}, stages=2" for i in range(12)]
    looks = style.look(names)
    assert len({tuple(str(look[key]) for key in ("color", "marker")) for look in looks.values()}) == len(looks)
    figure, (place,) = style.panels(["verlet"])
    for name in names:
        place.plot([0, 1], [0, 1], label=name, **looks[name])
    style.legend(figure, [place])
    figure.canvas.draw()
    box, below = place.get_window_extent(), figure.legends[0].get_window_extent()
    assert box.height > 1.3 * figure.dpi
    assert below.y1 < box.y0
