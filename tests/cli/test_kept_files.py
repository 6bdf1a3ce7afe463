"""What a resume needs is there whole, and fits together, at whatever moment a run ends."""

import csv
import errno
import os
import tempfile
from pathlib import Path

import pytest
import torch

from costate.callbacks import checkpoints
from costate.runs import RunFolder
from costate.runs.files import beside, write
from costate.training.loggers import MetricsFile, read
from running import QUIET, SMALL, fit, last, refusal

RUN = (*SMALL, *QUIET, "epochs=2")
BATCHES = 6  # an epoch of 96 rows


def test_a_text_takes_the_place_of_another_or_leaves_it(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "er" / "file"
    write(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"file.new cannot be written \(No space left on device\)\.$"):
        write(path, "new")
    assert path.read_text() == "old"
    assert [found.name for found in path.parent.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written"):
        write(tmp_path / "file" / "config.yaml", "")


def test_a_run_needs_no_room_for_temporary_files(tmp_path, monkeypatch):
    """Checkpoints were staged there, and copied over the good one if it was on another file system."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert fit(tmp_path / "run", *RUN).results()["epochs"] == 2


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    save, saved = torch.save, []

    def full(checkpoint: object, file: object) -> None:
        saved.append(checkpoint)
        save(checkpoint, file)
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert refusal(tmp_path, *RUN).endswith("last.ckpt.new cannot be written (No space left on device).")
    assert last(RunFolder(tmp_path))["epoch"] == 0
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_checkpoint_comes_when_its_numbers_and_its_best_one_are_there(tmp_path, monkeypatch):
    """The epoch's row came behind the checkpoint, and the best one too: a kill in between lost them."""
    seen: list[str] = []

    def watched(path: Path) -> None:
        with (tmp_path / "metrics.csv").open() as file:
            rows = [int(row["step"]) for row in csv.DictReader(file) if row["fit_seconds"]]
        assert rows[-1] == torch.load(beside(path), weights_only=True)["global_step"] - 1
        seen.append(path.name)
        replace(path)

    replace = checkpoints.replace
    monkeypatch.setattr(checkpoints, "replace", watched)
    fit(tmp_path, *RUN, "epochs=1")
    assert seen == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize("tail", [b"0.5,0", b"0.5,\xff\xfe,\r\n", b"\0" * 100, b"\0" * 100 + b"\r\n", b"0.5\r\n"])
def test_a_broken_end_of_the_metrics_is_cut_back_to_what_the_checkpoint_knows(tmp_path, tail):
    """int('') or an error of the reader ended the resume of a run whose checkpoint is good."""
    folder = fit(tmp_path, *RUN, "annealing=constant", "epochs=1")
    whole = [row for row in read(folder.metrics) if int(row["step"]) < BATCHES]
    folder.metrics.write_bytes(folder.metrics.read_bytes() + tail)
    fit(tmp_path, f"resume={tmp_path}", "epochs=2")
    rows = read(folder.metrics)
    assert rows[: len(whole)] == whole
    assert max(int(row["step"]) for row in rows) == 2 * BATCHES


def test_metrics_grow_by_columns_and_lose_no_row_in_between(tmp_path, monkeypatch):
    """The file was emptied for each new column, and deleted at each resume."""
    path = tmp_path / "metrics.csv"
    logger = MetricsFile(path)
    logger.log_metrics({"b": torch.tensor(0.5)}, step=0)
    logger.save()
    logger.log_metrics({"b": 0.25}, step=1)
    logger.save()
    assert path.read_bytes() == b"b,step\r\n0.5,0\r\n0.25,1\r\n"

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    logger.log_metrics({"a": 1}, step=2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            logger.save()
    assert read(path) == [{"b": "0.5", "step": "0"}, {"b": "0.25", "step": "1"}]
    logger.save()
    assert path.read_bytes() == b"a,b,step\r\n,0.5,0\r\n,0.25,1\r\n1,,2\r\n"
    again = MetricsFile(path, read(path)[:1])
    assert len(read(path)) == 3, "it begins with the first save"
    again.finalize("success")
    assert path.read_bytes() == b"b,step\r\n0.5,0\r\n"
