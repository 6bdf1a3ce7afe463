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
from costate.writing import beside, write
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
