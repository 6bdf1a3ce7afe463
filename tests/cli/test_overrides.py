"""What programs tell Hydra arrives as it is, whatever is in it; searches and sweeps go on in folders of any name."""

import json

import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from costate.config.words import override
from costate.reports import sweep
from costate.runs import JOB, RunFolder
from running import SMALL, command

ODD = [
    "a,b",
    "a=b",
    "a?b",
    "it's",
    "a b",
    'a"b',
    "a\\b",
    "a\\'b",
    "end\\",
    "${seed}",
    "\\${seed}",
    "{a}[b]",
    "50%",
    "ä",
]


@pytest.mark.parametrize("name", ODD)
def test_a_value_arrives_as_it_is(name):
    read = OverridesParser.create().parse_override(override("hydra.run.dir", name))
    assert OmegaConf.create({"value": read.value()}).value == name


def test_a_sweep_reads_the_results_of_the_runs_that_it_goes_on_with(tmp_path):
    """Both came to their end, and the table said that both had failed."""
    for n in range(2):
        RunFolder(tmp_path / f"run{n}").end({"test/accuracy": 0.5 + n / 4})
        job = {"number": n, "overrides": [f"resume=run{n}"], "run": str(tmp_path / f"run{n}")}
        (tmp_path / "sweep" / str(n)).mkdir(parents=True)
        (tmp_path / "sweep" / str(n) / JOB).write_text(json.dumps(job))
    RunFolder(tmp_path / "sweep" / "1").end({"error": "refused"})
    first, second = sweep.read(tmp_path / "sweep")
    assert first.results["test/accuracy"] == 0.5
    assert second.results["error"] == "refused"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": \0', "\xff"])
def test_a_damaged_summary_is_that_of_a_run_without_an_end(tmp_path, text):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / JOB).write_text(json.dumps({"number": 0, "overrides": ["seed=0"]}))
    (tmp_path / "0" / "summary.json").write_text(text, encoding="latin-1")
    assert RunFolder(tmp_path / "0").results() == {}
    assert [job.results for job in sweep.read(tmp_path)] == [{"error": "it did not come to its end"}]


@pytest.mark.parametrize("shows", [True, False])
def test_a_sweep_ends_with_the_code_of_its_first_failure_whatever_becomes_of_its_table(tmp_path, monkeypatch, shows):
    """Hydra makes warnings of what goes wrong in a callback, and ended with 0."""
    for n, results in enumerate(({"test/accuracy": 0.5}, {"error": "refused", "exit_code": 2})):
        RunFolder(tmp_path / str(n)).end(results)
        (tmp_path / str(n) / JOB).write_text(json.dumps({"number": n, "overrides": [f"seed={n}"]}))
    if not shows:
        monkeypatch.setattr(sweep, "show", lambda folder: int("x"))
    callbacks = Callbacks()
    callbacks.callbacks = [sweep.SweepTable()]
    with pytest.raises(SystemExit) as end:
        callbacks.on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert end.value.code == (2 if shows else 1)


@pytest.mark.thorough
def test_two_runs_that_go_on_in_a_sweep_on_a_terminal_of_ascii(tmp_path):
    """As a user has it: no sign of the table stops it, the exit code is 0, and 2 if one of them is refused."""
    for name in ("a=1", "b,ä"):
        words = [*SMALL, "epochs=1", override("hydra.run.dir", tmp_path / name)]
        assert command(*words, cwd=tmp_path, PYTHONIOENCODING="ascii").returncode == 0
    resumed = ",".join(override("", tmp_path / name)[1:] for name in ("a=1", "b,ä"))
    for epochs, code, ending in (("2", 0, ""), ("2,3", 0, ""), ("0,3", 2, "epochs must be")):
        done = command("-m", f"resume={resumed}", f"epochs={epochs}", cwd=tmp_path, PYTHONIOENCODING="ascii")
        assert done.returncode == code, done.stderr
        assert "mean ? standard deviation" in done.stdout
        assert ("failed" in done.stdout) == bool(code)
        assert ending in done.stderr
