"""What a run leaves behind for those who use its network: the module, its weights, how it does class by class."""

import csv
import json
import shutil

import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import costate
from costate.core.tasks import Classification
from costate.evaluate import Predictions, main
from costate.runs import RunFolder, trained
from own_network import layers
from running import QUIET, fit

DATA = ("data=ellipse", "data.train=96", "data.test=64", "data.batch_size=16", "epochs=1", "seed=0", *QUIET)
OWN = ("arch=sequential", "arch.module=own_network:layers", "method=backprop", "stages=3")
VERLET = ("arch=verlet", "arch.depth=6", "arch.width=8", "stages=3")

OTHER = "this data has (1, 8, 8) and asks for 10."


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> RunFolder:
    return fit(tmp_path_factory.mktemp("own"), *DATA, *OWN)


@pytest.fixture(scope="module")
def verlet(tmp_path_factory) -> RunFolder:
    return fit(tmp_path_factory.mktemp("verlet"), *DATA, *VERLET)


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_plain_pytorch_loads_the_weights_and_gives_the_same_outputs(own):
    plain = layers((2,), 2).eval()
    plain.load_state_dict(load_file(own.path / "network.safetensors"))
    network, x = costate.load(own.path), torch.randn(20, 2)
    assert torch.equal(plain(x), network(x))
    assert not any(type(module).__module__.startswith("costate") for module in network.modules())


def test_a_network_of_time_steps_is_written_out_in_plain_pytorch(verlet):
    w = load_file(verlet.path / "network.safetensors")
    x = torch.randn(20, 2)
    Y = nn.functional.linear(x, w["opening.1.weight"], w["opening.1.bias"])
    Z, h = torch.zeros_like(Y), 8.0 / 6
    for K, b in zip(w["field.K"], w["field.b"], strict=True):
        Z = torch.add(Z, torch.tanh(torch.addmm(b, Y, K.T)), alpha=-h)
        Y = torch.add(Y, torch.tanh(torch.addmm(b, Z, K)), alpha=h)
    plain = nn.functional.linear(Y, w["head.weight"], w["head.bias"])
    assert torch.equal(plain, costate.load(verlet.path)(x))


@pytest.mark.parametrize(
    "words",
    [OWN, (*VERLET, "method=coarse"), (*VERLET, "method=coarse", "levels=double", "levels.count=2", "epochs=2")],
    ids=["modules", "steps", "levels"],
)
def test_a_network_that_was_cut_by_work_is_found_again(tmp_path, words):
    """The word was taken for four sizes, w, o, r and k; a cut reckoned anew could be another one behind a doubling. A
    first module that learns nothing was not to be counted.
    """
    folder = fit(tmp_path, *DATA, *words, "balance=work")
    assert main([str(folder.path)]) == 0
    scores = json.loads((tmp_path / "evaluation" / "test" / "scores.json").read_text())
    assert scores["loss"] == pytest.approx(folder.results()["test/loss"], rel=1e-5)
    kept = load_file(tmp_path / "network.safetensors")
    found = costate.load(tmp_path).state_dict()
    found = found if words == OWN else {name.removeprefix("0."): θ for name, θ in found.items()}
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], θ) for name, θ in kept.items())


@pytest.mark.parametrize("name", ["own", "verlet"])
def test_scores_are_those_of_the_run_and_everything_adds_up(name, request, capsys):
    folder = request.getfixturevalue(name)
    assert main([str(folder.path)]) == 0
    out = folder.path / "evaluation" / "test"
    scores, results = json.loads((out / "scores.json").read_text()), folder.results()
    assert scores["accuracy"] == results["test/accuracy"]
    assert scores["loss"] == pytest.approx(results["test/loss"], rel=1e-5)
    lines, classes = rows(out / "predictions.csv"), rows(out / "classes.csv")
    assert [line["row"] for line in lines] == [str(i) for i in range(64)]
    right = [line["class"] == line["prediction"] for line in lines]
    assert sum(right) / 64 == scores["accuracy"]
    assert all(0.5 <= float(line["probability"]) <= 1 for line in lines)
    for row in classes:
        of_class = [hit for line, hit in zip(lines, right, strict=True) if line["class"] == row["class"]]
        assert len(of_class) == float(row["rows"])
        assert sum(of_class) / max(len(of_class), 1) == pytest.approx(float(row["recall"]))
    assert {path.name for path in out.iterdir()} >= {"confusion.png", "confusion.svg"}
    assert "accuracy" in capsys.readouterr().out


def test_other_rows_are_prepared_as_the_training_rows_were(own, tmp_path):
    assert main([str(own.path), "split=validation", "--out", str(tmp_path / "a")]) == 0
    scores = json.loads((tmp_path / "a" / "scores.json").read_text())
    assert scores["accuracy"] == pytest.approx(own.results()["val/accuracy"])
    assert main([str(own.path), "data.test=50", "--out", str(tmp_path / "b")]) == 0
    assert len(rows(tmp_path / "b" / "predictions.csv")) == 50
    assert main([str(own.path), "data=swiss_roll", "data.test=30", "--out", str(tmp_path / "c")]) == 0
    assert len(rows(tmp_path / "c" / "predictions.csv")) == 30


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["data=digits"],
            f"The network takes samples (2,) and gives 2 outputs; {OTHER}",
        ),
        (["data.tset=3"], "data.tset: no such setting (did you mean test?)."),
    ],
)
def test_data_of_another_kind_is_refused(own, words, sentence, capsys):
    assert main([str(own.path), *words]) == 2
    assert capsys.readouterr().err == sentence + "\n"


def test_pictures_of_ones_own_are_prepared_by_what_the_run_has_kept(tmp_path):
    """Mean and deviation were kept nowhere: a network of bytes was given them as they are, or as shares of 255."""
    run = fit(tmp_path, "data=digits", "arch=mlp", "stages=1", "method=backprop", "epochs=1", *QUIET)
    known = json.loads((tmp_path / "samples.json").read_text())
    assert (known["shape"], known["outputs"]) == ([1, 8, 8], 10)
    data = instantiate(trained.settings(tmp_path)["data"], _convert_="all")
    data.setup()
    x, y = data.parts.test
    own = (x.float() - torch.tensor(known["mean"])) / torch.tensor(known["deviation"])
    right = costate.load(tmp_path)(own).argmax(1) == y
    assert right.float().mean().item() == pytest.approx(run.results()["test/accuracy"])


def test_a_network_is_there_without_its_data_and_its_classes_have_names(tmp_path, capsys):
    for name, colour in {"cat": 40, "dog": 200, "ant": 40, "bee": 200}.items():
        for i in range(8):
            path = tmp_path / ("one" if name in ("cat", "dog") else "two") / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), colour + i).save(path)
    words = ("data=folder", "data.size=4", "data.augment=none", "data.batch_size=4", f"data.cache={tmp_path / 'cache'}")
    run = fit(tmp_path / "run", *words, f"data.root={tmp_path / 'one'}", *OWN, "epochs=1", *QUIET)
    assert main([str(run.path), f"data.root={tmp_path / 'two'}"]) == 2
    assert "\nThe network tells cat, dog apart; this data has ant, bee: " in "\n" + capsys.readouterr().err
    shutil.rmtree(tmp_path / "one")
    assert costate.load(run.path)(torch.randn(2, 3, 4, 4)).shape == (2, 2)


def test_sequences_with_an_answer_at_their_end_have_rows_to_look_at(tmp_path):
    small = ("data.length=6", "data.train=40", "data.validation=20", "data.test=20", "data.batch_size=10", "epochs=1")
    run = fit(tmp_path, "arch=rnn", "arch.width=4", "method=none", "span=3", "data=adding", *small, *QUIET)
    assert main([str(tmp_path)]) == 0
    scores = json.loads((tmp_path / "evaluation" / "test" / "scores.json").read_text())
    assert scores["loss"] == pytest.approx(run.results()["test/loss"], rel=1e-5)


def test_rows_are_counted_and_not_rounded(capsys):
    """The test of MNIST had `rows 1e+04`."""
    Predictions(Classification(2), torch.zeros(12_345, 2), torch.zeros(12_345, dtype=torch.long), []).show("there")
    assert "rows 12,345" in capsys.readouterr().out


def test_what_is_no_run_is_said(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path} has no config.yaml")


def test_numbers_that_are_predicted_are_listed_beside_their_targets(tmp_path):
    folder = fit(tmp_path, *DATA, *OWN, "data=surface", "data.validation=40")
    assert main([str(folder.path)]) == 0
    lines = rows(folder.path / "evaluation" / "test" / "predictions.csv")
    errors = [(float(line["target_0"]) - float(line["output_0"])) ** 2 for line in lines]
    assert sum(errors) / len(errors) == pytest.approx(folder.results()["test/mse"], rel=1e-4)
    assert not (folder.path / "evaluation" / "test" / "confusion.png").exists()


def test_a_run_says_what_its_stages_are_made_of(tmp_path, capsys):
    """Two layers of 8 × 8 a stage, and a boundary of two fields of 8 numbers."""
    folder = fit(tmp_path, *DATA, *VERLET, "summary=true")
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│ ")]
    stage, layers_, parameters, flops, boundary, down, up = (cell.strip() for cell in lines[1])
    assert (stage, layers_, parameters) == ("1", "2", str(2 * (64 + 8)))
    assert (flops, boundary, down, up) == (str(2 * 2 * 2 * 64), "16", "64", "64")
    total = 2 * (2 * 8 + 6 * 2 * 64 + 8 * 2)
    assert folder.results()["flops_per_sample"] == total


@pytest.mark.parametrize(("near", "size"), [(0, 2 * (144 + 2 * 162)), (1, 4 * 144 + 2 * 162 + 4 * 162)])
def test_a_run_says_what_its_copies_weigh(tmp_path, capsys, near, size):
    """Of two stages by the first, and of the last by the second, in half precision where they are not near."""
    fit(tmp_path, *DATA, *VERLET, "method=coarse", f"method.near={near}", "summary=true")
    assert f"Copies of stages besides: {size:,} bytes at each refresh." in capsys.readouterr().out
