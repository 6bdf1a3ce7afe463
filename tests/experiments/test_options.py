"""Options that cannot be, and what --fast runs and removes."""

import pytest

from composing import CONF
from costate.experiments import __main__ as command
from costate.experiments.__main__ import main
from costate.experiments.rows import read


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--jobs", "0"], "0 is not a whole number from 1 on"),
        (["--jobs", "two"], "two is not a whole number from 1 on"),
        (["--seeds", "a"], "a is not a list of whole numbers from 0 on"),
        (["--seeds", "0,,1"], "0,,1 is not a list"),
        (["--fast", "--seeds", "0"], "--seeds does not go with --fast"),
        (["--fast", "--jobs", "1"], "--jobs does not go with --fast"),
        (["--fast", "--out", "RESULTS.md"], "--out does not go with --fast"),
    ],
)
def test_options_that_cannot_be_are_answered_in_one_sentence(words, told, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("costate.runs.program.start", None)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_what_is_named_twice_is_run_once(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr("costate.runs.program.run", lambda folder, *overrides: ran.append(overrides))
    out = ["--out", str(tmp_path / "RESULTS.md"), "--runs", str(tmp_path / "runs")]
    main(["surface_sgd", "surface_sgd", "--seeds", "0,0", *out])
    assert ran == [("experiment=surface_sgd", "seed=0")]


def test_fast_removes_what_it_has_made_itself_and_nothing_else(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        command, "fast", lambda chosen, place, mnist: [(each.name, {"test/mse": 0.5}) for each in chosen]
    )
    place, words = tmp_path / "runs-fast", ["surface_sgd", "surface_sgd", "--fast", "--runs", str(tmp_path / "runs")]
    assert main(words) == 0
    (place / "0").mkdir()
    assert main(words) == 0
    assert not (place / "0").exists()
    assert (place / "RESULTS.md").read_text().count("| surface_sgd | 0.5 |") == 1
    (place / ".fast").unlink()
    assert main(words) == 2
    assert "holds something that --fast has not made" in capsys.readouterr().err
    assert (place / "RESULTS.md").exists()


def test_a_fast_experiment_has_an_epoch_a_level_and_digits_where_mnist_is_not_there():
    all_four = ("multilevel_sg", "ellipse", "dni_copy", "bplambda_mnist")
    read_in = [read(CONF / "experiment" / f"{name}.yaml") for name in all_four]
    assert command.sweeps(read_in, mnist=False) == {
        ("epochs=3", command.DIGITS, "data.train=600", *command.SMALL): ["multilevel_sg"],
        ("epochs=1", "data.train=600", *command.SMALL): ["ellipse"],
        ("epochs=1", "data.batches=20", *command.SMALL): ["dni_copy"],
        ("epochs=1", command.SEQUENCES, "data.train=600", *command.SMALL): ["bplambda_mnist"],
    }
    assert command.sweeps(read_in[:1], mnist=True) == {
        ("epochs=3", "data.train=600", *command.SMALL): ["multilevel_sg"]
    }
