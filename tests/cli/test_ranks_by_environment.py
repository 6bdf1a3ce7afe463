"""A run of one process is rank 0, whatever launchers have left in its environment."""

import csv

import pytest
from lightning.fabric.utilities.rank_zero import _get_rank
from lightning.pytorch.utilities import rank_zero_only

from costate.execution.launching import meeting
from running import QUIET, SMALL, fit

SRUN = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NODEID": "0"}


@pytest.mark.parametrize(
    "environment",
    [
        {"LOCAL_RANK": "1"},
        {"RANK": "2"},
        {"RANK": "1", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "a"},
        {"JSM_NAMESPACE_RANK": "1"},
        {"SLURM_NTASKS": "2"},
        {**SRUN, "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"},
    ],
    ids=lambda environment: ",".join(environment),
)
def test_a_run_of_one_process_writes_its_numbers(tmp_path, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # As Lightning has it when it is imported in such an environment.
    monkeypatch.setattr(rank_zero_only, "rank", _get_rank() or 0)
    folder = fit(tmp_path / "run", *SMALL, *QUIET, "epochs=1", "callbacks=none")
    assert meeting.rank() is None
    with folder.metrics.open(encoding="utf-8") as file:
        assert {int(row["step"]) for row in csv.DictReader(file)} >= {3, 5}
    assert "test/accuracy" in folder.results()
