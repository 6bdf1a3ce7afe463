"""A report says what is in run folders, whatever became of the runs."""

import csv
import io
import json
import re
from pathlib import Path
from statistics import stdev

import numpy as np
import pytest
import yaml

from costate.callbacks.speed import events
from costate.execution.clock import Span
from costate.reports import curves, scaling, style, timeline
from costate.reports.curves import band
from costate.reports.groups import AXES, baseline, find, grouped
from costate.reports.report import write
from costate.reports.table import NUMBERS, WHERE_MEASURED, all_digits, build
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
        "data": {"_target_": "costate.data.images.Digits", "shuffle_seed": seed},
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
    assert "| verlet | sg | digits | 2 | 95.50 ± 0.71 % | -3.00 | 2 | 1.50 |" in (out / "table.md").read_text()
    assert "| mlp | sg | digits | 1 | 90.00 % |" in (out / "table.md").read_text()
    assert r"95.50 $\pm$ 0.71 \%" in (out / "table.tex").read_text()


def test_a_band_is_the_sample_deviation_of_seeds_where_all_have_a_value():
    seeds = [(np.array([1, 2, 3]), np.array([1.0, 4.0, 9.0])), (np.array([2, 3, 4]), np.array([6.0, 9.5, 0.0]))]
    x, middle, spread = band(seeds)
    assert x.tolist() == [2, 3]
    assert middle.tolist() == [5.0, 9.25]
    assert spread == pytest.approx([stdev([4, 6]), stdev([9, 9.5])])
    assert band(seeds[:1])[2].tolist() == [0.0] * 3


def test_backpropagation_comes_to_its_own_best_with_every_seed(tmp_path):
    """It was within a point of the mean over its seeds with one of them, and so "never" on the whole."""
    for seed, best in enumerate((0.93, 0.97)):
        folder = run(tmp_path / str(seed), "verlet", "backprop", seed, 0.9)
        results = json.loads((folder / "summary.json").read_text()) | {"val/accuracy": best}
        (folder / "summary.json").write_text(json.dumps(results))
        (folder / "metrics.csv").write_text(f"step,val/accuracy,fit_seconds\n0,0.5,1.0\n1,{best},3.0\n")
    header, row = build(grouped(find([tmp_path])[0]))
    assert row[header.index("seconds to backprop")].startswith("3")


def test_what_methods_cost_is_in_the_table_where_it_was_measured(tmp_path):
    """Seconds until the validation score is within a point of backpropagation's best one; milliseconds; megabytes."""
    curves = {"backprop": (0.9, 0.975, 0.98), "none": (0.8, 0.85, 0.9), "sg": (0.8, 0.969, 0.972)}
    for method, scores in curves.items():
        folder = run(tmp_path / method, "verlet", method, 0, 0.9)
        assert not set(WHERE_MEASURED) & set(build(grouped(find([folder])[0]))[0])
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump(config | {"data": {**config["data"], "batch_size": 64}}))
        own = {"best_epoch": 3, "val/accuracy": scores[-1], "peak_bytes": 5e6, "flops_per_sample": 1.5e6}
        own["stage/0/gradient_cosine"] = 0.5
        results = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(results | own))
        lines = [f"{i},{score},{2.0 + i}" for i, score in enumerate(scores)]
        (folder / "metrics.csv").write_text("\n".join(["step,val/accuracy,fit_seconds", *lines]) + "\n")
    header, *rows = build(grouped(find([tmp_path])[0]))
    assert header[-3:] == list(WHERE_MEASURED)
    found = {row[1]: row[-3:] for row in rows}
    assert found == {
        "backprop": ["3", "5.0", "0.500"],
        "none": ["never", "5.0", "0.500"],
        "sg": ["4", "5.0", "0.500"],
    }
    rows = csv.DictReader(io.StringIO(all_digits(grouped(find([tmp_path])[0]))))
    assert [(row["ms_a_batch"], row["seconds_to_backprop"]) for row in rows] == [
        ("64.0", "3.0"),
        ("64.0", "inf"),
        ("64.0", "4.0"),
    ]


def test_of_many_settings_a_table_to_read_has_those_that_tell_its_rows_apart(tmp_path):
    """A comparison had 22 columns, most of which said the same."""
    for lr in (0.1, 0.2):
        folder = run(tmp_path / str(lr), "verlet", "sg", 0, 0.9)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        follows = dict.fromkeys(("clip", "decay", "warmup", "window"), 2 * lr)
        (folder / "config.yaml").write_text(yaml.safe_dump(config | {"lr": lr} | follows))
    groups = grouped(find([tmp_path])[0])
    assert build(groups)[0] == [*AXES, "clip", *NUMBERS]
    assert {"lr", "decay", "warmup", "window"} < set(next(csv.reader(io.StringIO(all_digits(groups)))))


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
    assert {"loss_digits", "error_digits", "gradients_digits", "speed_digits"} <= names
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
    for file in (tmp_path / "mine" / "thesis.tex", tmp_path / "mine" / "thesis.tex" / "report"):
        with pytest.raises(ValueError, match=r"thesis.tex.*: a file is there: choose a folder"):
            write([runs], file)
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


def test_runs_of_before_there_was_a_switch_are_of_one_group_with_those_that_have_it_off(tmp_path):
    """Seeds of yesterday and of today stood in two rows, and the second had no baseline."""
    run(tmp_path / "a", "mlp", "backprop", 0, 0.9)
    today = run(tmp_path / "b", "mlp", "backprop", 1, 0.8) / "config.yaml"
    plain = today.read_text()
    today.write_text(plain + "compile: false\nchannels_last: false\n")
    (group,) = grouped(find([tmp_path])[0])
    assert set(group.seeds) == {0, 1}
    today.write_text(plain + "channels_last: true\n")
    assert len(grouped(find([tmp_path])[0])) == 2


def test_repeats_of_a_seed_are_no_seeds(tmp_path):
    """Three runs of seed 0 were "seeds 3", and their deviation of 0 was one over seeds."""
    for repeat in range(3):
        run(tmp_path / f"a{repeat}", "verlet", "sg", 0, 0.9)
    run(tmp_path / "b", "verlet", "sg", 1, 0.94)
    (group,) = grouped(find([tmp_path])[0])
    assert group.statistics("test/accuracy") == (pytest.approx(0.92), pytest.approx(0.04 / 2**0.5))
    header, row = build([group])
    assert row[header.index("seeds")] == "2 (4 runs)"
    assert len(group.firsts) == 2


def executed(folder: Path, execution: str, devices: int, **settings) -> None:
    """Makes it a run by another execution."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    strategy = {"_target_": f"costate.execution.strategy.{'Replicas' if execution == 'serial' else 'Stages'}"}
    config["execution"] = {"_target_": f"costate.execution.{execution}.{execution.title()}", **settings}
    config["trainer"] = {"devices": devices, "strategy": strategy}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_runs_that_differ_in_execution_have_short_names_and_one_baseline(tmp_path):
    """execution._target_, _partial_, lag, window, replicas, trace, devices and the strategy were all in the name."""
    more = {"window": 2, "replicas": 1, "trace": False}
    for name, method, execution, devices, settings in (
        ("a", "backprop", "serial", 1, {"lag": 0}),
        ("b", "sg", "serial", 1, {"lag": 0}),
        ("c", "sg", "pipeline", 2, {"lag": 1, **more}),
        ("d", "sg", "pipeline", 2, {"lag": 0, **more}),
    ):
        executed(run(tmp_path / name, "verlet", method, 0, 0.9), execution, devices, **settings)
    groups = grouped(find([tmp_path])[0])
    assert [group.way for group in groups] == [
        "backprop",
        "sg",
        "sg, pipeline, lag=0",
        "sg, pipeline, lag=1",
    ]
    assert {group.network for group in groups} == {"verlet"}
    assert all(baseline(group, groups) is groups[0] for group in groups)
    few = grouped(find([tmp_path / name for name in "abc"])[0])
    assert [group.way for group in few] == ["backprop", "sg", "sg, pipeline"]
    assert "execution" in build(few)[0]


def test_a_table_of_different_runs_has_the_columns_in_which_they_differ(tmp_path):
    """Settings were compared on the same network and data alone: runs on two networks showed no depth."""
    for arch, depth in (("verlet", 8), ("resnet", 16)):
        folder = run(tmp_path / arch, arch, "sg", 0, 0.9, depth=depth)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config |= {"optimizer": {"_target_": "costate.training.optimizers.Adam", "lr": depth / 100}, "clip": None}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    header, *rows = build(grouped(find([tmp_path])[0]))
    assert header[:4] == ["arch", "method", "data", "optimizer.lr"]
    assert {(row[0], row[3]) for row in rows} == {("verlet", "0.08"), ("resnet", "0.16")}


def test_an_epoch_alone_is_a_point_on_an_axis_from_0(tmp_path):
    """It was one on an axis from 0.96 to 1.04."""
    for method in ("backprop", "sg"):
        folder = run(tmp_path / method, "verlet", method, 0, 0.9)
        (folder / "metrics.csv").write_text("step,epoch,val/loss,fit_seconds\n9,0,0.5,20\n")
    figures = {name: figure for name, _, figure in curves.draw(grouped(find([tmp_path])[0]))}
    for name, at in (("loss_digits", 1), ("cost_digits", 20)):
        (place,) = figures[name].axes
        assert place.get_xlim() == (0, 1.5 * at)
        assert [line.get_xdata().tolist() for line in place.lines] == [[at], [at]]


def test_runs_of_different_lengths_are_lines_of_one_panel_with_baselines_of_their_own(tmp_path):
    for epochs in (1, 3):
        for method in ("backprop", "sg"):
            folder = run(tmp_path / f"{method}{epochs}", "verlet", method, 0, 0.9)
            config = yaml.safe_load((folder / "config.yaml").read_text())
            (folder / "config.yaml").write_text(yaml.safe_dump(config | {"epochs": epochs}))
    groups = grouped(find([tmp_path])[0])
    assert {group.network for group in groups} == {"verlet"}
    assert {group.way for group in groups} == {f"{m}, epochs={n}" for m in ("backprop", "sg") for n in (1, 3)}
    assert all(baseline(group, groups).settings["epochs"] == group.settings["epochs"] for group in groups)
    (figure,) = [figure for name, _, figure in curves.draw(groups) if name == "loss_digits"]
    assert len(figure.axes) == 1


def test_errors_are_drawn_where_accuracies_saturate(tmp_path):
    for name, accuracy in (("high", 0.98), ("low", 0.5)):
        groups = grouped(find([run(tmp_path / name, "verlet", "sg", 0, accuracy)])[0])
        drawn = {name: figure for name, _, figure in curves.draw(groups)}
        assert ("error_digits" in drawn, "accuracy_digits" in drawn) == (accuracy > 0.9, accuracy < 0.9)
        if accuracy > 0.9:
            (place,) = drawn["error_digits"].axes
            assert place.get_yscale() == "log"
            assert place.lines[0].get_ydata() == pytest.approx([2.0] * 3)


def test_the_loss_is_drawn_by_samples_and_by_seconds_as_well(tmp_path):
    folder = run(tmp_path / "run", "verlet", "sg", 0, 0.9)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"data": {**config["data"], "batch_size": 32}}))
    (folder / "metrics.csv").write_text("step,val/loss,fit_seconds\n3,1,0.5\n7,0.5,1.25\n")
    figure = curves.costs(grouped(find([tmp_path])[0]))
    by_samples, by_seconds = (place.lines[0] for place in figure.axes)
    assert by_samples.get_xdata().tolist() == [4 * 32, 8 * 32]
    assert by_seconds.get_xdata().tolist() == [0.5, 1.25]
    assert by_samples.get_ydata().tolist() == by_seconds.get_ydata().tolist() == [1, 0.5]


@pytest.mark.parametrize("seeds", [1, 2])
def test_bars_of_deviation_are_drawn_for_several_seeds_alone(tmp_path, seeds):
    for seed in range(seeds):
        for stages in (2, 4, 16):
            run(tmp_path / f"{seed}{stages}", "verlet", "sg", seed, 0.9 + seed / 100, stages=stages)
    groups = grouped(find([tmp_path])[0])
    assert [group.way for group in groups] == [f"sg, stages={k}" for k in (2, 4, 16)]
    ((_, caption, figure),) = scaling.stages(groups)
    assert bool(figure.axes[0].containers) == ("standard deviation" in caption) == (seeds > 1)
    assert not [name for name, _, _ in scaling.draw(groups) if name.startswith("stages")], "drawn once"


def test_a_legend_stays_inside_the_picture():
    """A name of 90 letters, as those of runs by different executions, left the picture on both sides."""
    figure, (place,) = style.panels(["verlet"])
    for i in range(3):
        place.plot([0, 1], [i, 1], label=f"sg {i}, " + ", ".join(f"setting_{k}=value" for k in range(6)))
    style.legend(figure, [place])
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= place.get_window_extent().y0


def test_colour_bars_have_even_ticks():
    figure, (place,) = style.panels([""])
    bar = style.colour_bar(figure, place.imshow(np.array([[-1.374, 2.219]])), place)
    figure.canvas.draw()
    steps = np.diff(bar.get_ticks())
    assert steps == pytest.approx(steps[0])
    assert f"{steps[0]:g}" in {"0.5", "1"}


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


def test_names_of_many_lines_are_told_by_their_factors():
    """A legend had a line for each method on each number of stages: five by four are nine."""
    names = [f"{method}, stages={k}" for method in ("coarse", "delayed", "greedy", "sg", "critic") for k in (2, 4, 8)]
    looks = style.look([*names, "backprop"])
    assert len({tuple(map(str, look.values())) for look in looks.values()}) == 16
    assert looks["sg, stages=2"]["color"] == looks["sg, stages=8"]["color"] != looks["coarse, stages=8"]["color"]
    assert looks["sg, stages=2"]["marker"] == looks["coarse, stages=2"]["marker"] != looks["sg, stages=4"]["marker"]
    figure, (place,) = style.panels(["verlet"])
    for name, look in looks.items():
        place.plot([0, 1], [0, 1], label=name, **look)
    style.legend(figure, [place])
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == [
        *("coarse", "delayed", "greedy", "sg", "critic", "backprop"),
        *("stages=2", "stages=4", "stages=8", "none of these"),
    ]


def test_a_legend_that_none_could_read_says_where_names_are():
    figure, (place,) = style.panels(["verlet"])
    for i in range(40):
        place.plot([0, 1], [0, i], label=f"trial {i}")
    style.legend(figure, [place])
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told[-2:] == ["trial 15", "and 24 more: see the table"]


def test_empty_panels_are_taken_away_and_their_neighbours_name_the_axes():
    figure, axes = style.table(2, 2, 1.0, sharex=True, sharey=True)
    for place in (axes[0, 0], axes[0, 1], axes[1, 1]):
        place.plot([0, 1])
    style.outer(axes, ["stages", "stages"], ["error", "cosine"])
    assert figure.axes == [axes[0, 0], axes[0, 1], axes[1, 1]]
    assert (axes[0, 0].get_xlabel(), axes[1, 1].get_xlabel(), axes[0, 1].get_xlabel()) == ("stages", "stages", "")
    assert (axes[0, 0].get_ylabel(), axes[1, 1].get_ylabel()) == ("error", "cosine")


def test_a_figure_promises_what_it_has(tmp_path):
    """The caption told of a cosine that no run had measured."""
    for stages in (2, 4):
        run(tmp_path / str(stages), "verlet", "sg", 0, 0.9, stages=stages)
    ((_, caption, figure),) = scaling.stages(grouped(find([tmp_path])[0]))
    assert "cosine" not in caption
    assert len(figure.axes) == 1
    for file in tmp_path.glob("*/summary.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {scaling.COSINE: 0.5}))
    ((_, caption, figure),) = scaling.stages(grouped(find([tmp_path])[0]))
    assert "cosine" in caption
    assert [place.get_ylabel() for place in figure.axes] == ["test error, %", "cosine, first stage"]


def test_backpropagation_on_one_number_of_stages_is_a_line_across(tmp_path):
    run(tmp_path / "b", "verlet", "backprop", 0, 0.98, stages=1)
    run(tmp_path / "r", "resnet", "sg", 0, 0.98, stages=2)
    for stages in (2, 4):
        run(tmp_path / str(stages), "verlet", "sg", 0, 0.9, stages=stages)
    ((_, _, figure),) = scaling.stages(grouped(find([tmp_path])[0]))
    (place,) = figure.axes
    drawn = {line.get_label(): line.get_xydata() for line in place.lines}
    assert drawn["backprop"] == pytest.approx(np.array([[2, 2], [4, 2]]))


def test_the_length_that_was_solved_is_drawn_against_the_span_by_method(tmp_path):
    for seed in (0, 1):
        for method, solved in (("sg", 6), ("none", 3)):
            for span in (2, 4):
                folder = run(tmp_path / f"{method}{span}{seed}", "lstm", method, seed, 0.6)
                config = yaml.safe_load((folder / "config.yaml").read_text())
                (folder / "config.yaml").write_text(yaml.safe_dump({**config, "span": span}))
                summary = json.loads((folder / "summary.json").read_text())
                (folder / "summary.json").write_text(json.dumps({**summary, "solved": solved + span + seed}))
    groups = grouped(find([tmp_path])[0])
    (figure,) = [figure for name, _, figure in scaling.draw(groups) if name == "solved_digits"]
    (place,) = figure.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in place.lines if line.get_label()[0] != "_"}
    assert drawn == {"lstm, sg": [[2, 8.5], [4, 10.5]], "lstm, none": [[2, 5.5], [4, 7.5]]}
    assert place.get_ylabel() == "longest length solved"
    assert all(tick == round(tick) for tick in place.get_yticks()), "a length is a whole number"


@pytest.mark.parametrize("traced", ["mlp", "verlet"])
def test_a_run_without_a_trace_takes_none_from_another_network(tmp_path, traced):
    """Both are trained alike; of one name the last run's trace was looked for, and of no other."""
    folders = {arch: run(tmp_path / arch, arch, "sg", 0, 0.9) for arch in ("mlp", "verlet")}
    spans = [Span("update", n, float(n), 1.0) for n in range(16)]
    (folders[traced] / "trace.json").write_text(json.dumps({"traceEvents": events([("rank 0, stage 0", spans)])}))
    assert [name for name, _, _ in timeline.draw(grouped(find([tmp_path])[0]))] == ["timeline_digits"]


def edited(folder: Path, **settings: dict) -> None:
    """Gives a run these settings more, part by part."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for part, own in settings.items():
        config[part] = config.get(part, {}) | own
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(("published", "rows"), [({"download": True}, 1), ({}, 2)])
def test_two_folders_of_pictures_are_two_data_sets(tmp_path, published, rows):
    """One row had the mean of cats and flowers: a root was where the data lie, whatever the data."""
    for root in ("cats", "flowers"):
        edited(run(tmp_path / root, "cnn", "sg", 0, 0.9), data={"root": root, "cache": root, **published})
    groups = grouped(find([tmp_path])[0])
    assert len(groups) == rows
    assert [group.network for group in groups] == (["cnn, root=cats", "cnn, root=flowers"] if rows == 2 else ["cnn"])


MEASURED = {"gradient_cosine": {"_target_": "costate.callbacks.gradients.GradientCosine", "every": 100}}
STOPPED = {"early_stopping": {"_target_": "costate.callbacks.course.Stopping", "monitor": "val/loss", "patience": 1}}


@pytest.mark.parametrize(
    ("callbacks", "ways"),
    [
        (MEASURED | {"traffic": None}, ["sg"]),
        (STOPPED, ["sg", "sg, early_stopping=stopping"]),
        ({"mine": {"_target_": "mine.Weights", "share": 0.5}}, ["sg", "sg, mine=weights"]),
    ],
)
def test_what_measures_makes_no_other_row_and_what_changes_the_training_does(tmp_path, callbacks, ways):
    """All callbacks were left aside: runs that were ended early and others had one mean."""
    edited(run(tmp_path / "without", "verlet", "sg", 0, 0.9), callbacks={})
    edited(run(tmp_path / "with", "verlet", "sg", 0, 0.5), callbacks=callbacks)
    groups = grouped(find([tmp_path])[0])
    assert [group.way for group in groups] == ways
    assert {group.network for group in groups} == {"verlet"}


def test_what_a_callback_is_set_to_tells_runs_apart_that_have_it(tmp_path):
    """Sequences that became longer at another threshold were the same data."""
    for threshold in (0.15, 0.01):
        curriculum = {"_target_": "costate.callbacks.course.Curriculum", "threshold": threshold}
        edited(run(tmp_path / str(threshold), "lstm", "sg", 0, 0.9), callbacks={"curriculum": curriculum})
    groups = grouped(find([tmp_path])[0])
    assert [group.way for group in groups] == ["sg, threshold=0.01", "sg, threshold=0.15"]
    assert build(groups)[0] == [*AXES, "callbacks.curriculum.threshold", *NUMBERS]


@pytest.mark.parametrize(
    ("train", "outer", "batches", "rows"),
    [(1000, 5000, 1, 1000), (9000, 5000, 2, 5000), (None, 5000, 2, 5000), (None, 5000, 1, None), (1000, None, 1, 1000)],
)
def test_an_outer_iteration_has_no_more_rows_than_there_are(tmp_path, train, outer, batches, rows):
    """Of 1000 training rows a batch was 5000, and its milliseconds five times too many."""
    folder = run(tmp_path / "run", "mlp", "pvd", 0, 0.9, outer_batch=outer)
    edited(folder, data={"train": train, "batch_size": 32})
    lines = [f"{batches * (epoch + 1) - 1},{epoch}" for epoch in range(3)]
    (folder / "metrics.csv").write_text("\n".join(["step,epoch", *lines]) + "\n")
    (found,), _ = find([tmp_path])
    assert found.rows == rows


def test_zero_bytes_of_a_crash_and_files_of_wandb_are_no_runs_and_break_none(tmp_path, monkeypatch):
    """Python 3.10 read `line contains NUL` and there was no report; and each run was there twice."""
    reader = csv.DictReader

    def strict(lines):
        lines = list(lines)
        assert not any("\0" in line for line in lines), "as that of Python 3.10"
        return reader(lines)

    folder = run(tmp_path / "run", "verlet", "sg", 0, 0.9)
    with (folder / "metrics.csv").open("a") as file:
        file.write("\0" * 100)
    (folder / "wandb" / "run-1" / "files").mkdir(parents=True)
    (folder / "wandb" / "run-1" / "files" / "config.yaml").write_text("wandb_version: 1\n")
    run(tmp_path / "wandb" / "run", "verlet", "sg", 1, 0.9)
    monkeypatch.setattr("csv.DictReader", strict)
    found, broken = find([tmp_path])
    assert [each.columns["val/loss"].steps for each in found] == [[4, 8, 12]] * 2
    assert broken == []
