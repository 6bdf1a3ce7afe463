"""A job that wants several ranks starts itself again, with its own settings and in its own folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from costate.execution import launching
from costate.execution.launching import meeting

APP = """
import json, os, sys
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from costate.execution import launching
from costate.execution.launching import meeting

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    folder = Path(HydraConfig.get().runtime.output_dir)
    if launching.delegate(cfg.ranks):
        print("supervised", folder.name)
        return
    assert "torch" not in sys.modules
    (folder / f"rank-{meeting.rank()}.json").write_text(json.dumps({
        "seed": cfg.seed, "name": cfg.name, "choice": cfg.choice.letter, "pid": os.getpid(), "parent": os.getppid(),
        "environment": dict(os.environ),
    }))

main()
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "conf" / "choice").mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text("defaults: [choice: a, _self_]\nseed: 0\nranks: 2\nname: x\n")
    (tmp_path / "conf" / "choice" / "a.yaml").write_text("letter: a")
    (tmp_path / "conf" / "choice" / "b.yaml").write_text("letter: b")
    (tmp_path / "conf" / "study").mkdir()
    (tmp_path / "conf" / "study" / "seeds.yaml").write_text(
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}"
    )
    return tmp_path / "app.py"


def execute(app: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(app), *overrides]
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run(command, cwd=app.parent, env=inherited | environment, capture_output=True, text=True)


def run(app: Path, *overrides: str, **environment: str) -> str:
    done = execute(app, *overrides, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ranks(folder: Path) -> list[dict]:
    return [json.loads((folder / f"rank-{r}.json").read_text()) for r in range(2)]


def test_every_job_of_a_sweep_has_its_own_settings_on_all_ranks(app: Path) -> None:
    shown = run(
        app,
        "+study=seeds",
        "choice=a,b",
        "name='a, b=c'",
        "hydra.sweep.dir=sweep",
        r"hydra.sweep.subdir='it\'s=${hydra.job.num}'",
    )
    assert shown.count("supervised") == 4
    for job, (letter, seed) in enumerate([("a", 0), ("b", 0), ("a", 1), ("b", 1)]):
        first, second = ranks(app.parent / "sweep" / f"it's={job}")
        for rank in (first, second):
            assert (rank["choice"], rank["seed"], rank["name"]) == (letter, seed, "a, b=c")
        assert first["parent"] == second["parent"]
        assert first["pid"] != second["pid"]


def test_what_ranks_are_told(app: Path) -> None:
    run(app, "hydra.run.dir=out", GLOO_SOCKET_IFNAME="")
    first, second = (rank["environment"] for rank in ranks(app.parent / "out"))
    assert [(first[name], second[name]) for name in ("RANK", "LOCAL_RANK")] == [("0", "1")] * 2
    shared = ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID")
    assert [first[name] for name in shared] == [second[name] for name in shared]
    assert first["WORLD_SIZE"] == "2"
    assert 1 <= int(first["OMP_NUM_THREADS"]) <= max(1, (os.cpu_count() or 1) // 2)
    assert first["GLOO_SOCKET_IFNAME"] == ""


def test_the_users_threads_and_config_folders_hold_for_ranks(app: Path) -> None:
    more = app.parent / "more" / "choice"
    more.mkdir(parents=True)
    (more / "c.yaml").write_text("letter: c")
    run(app, "--config-dir", str(more.parent), "choice=c", "hydra.run.dir=out", OMP_NUM_THREADS="7")
    assert ranks(app.parent / "out")[1]["choice"] == "c"
    assert ranks(app.parent / "out")[1]["environment"]["OMP_NUM_THREADS"] == "7"


def test_one_rank_is_this_process() -> None:
    assert launching.delegate(1) is False
    assert meeting.rank() is None


def test_ranks_of_torchrun_do_their_share(app: Path) -> None:
    assert run(app, "hydra.run.dir=out", RANK="1", WORLD_SIZE="2") == ""
    assert (app.parent / "out" / "rank-1.json").exists()


def test_a_sweep_under_torchrun_is_refused(app: Path) -> None:
    done = execute(app, "-m", "seed=0,1", RANK="1", WORLD_SIZE="2")
    assert done.returncode == 1
    assert "leave torchrun out" in done.stderr
    assert list(app.parent.rglob("rank-*.json")) == [], "a job has begun"


@pytest.mark.parametrize("wanted", [1, 3])
def test_a_wrong_number_of_ranks_is_refused(monkeypatch: pytest.MonkeyPatch, wanted: int) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=f"2 ranks were started and the settings ask for {wanted}"):
        launching.delegate(wanted)


def test_several_hosts_are_torchruns_business() -> None:
    with pytest.raises(ValueError, match="torchrun --nnodes=2 --nproc-per-node=4"):
        launching.delegate(8, hosts=2)


AGREEING = """
import os, time
import torch.distributed as dist
from costate.execution.launching import meeting
if meeting.rank() == 0:
    time.sleep(0.2)
start = os.environ["TORCHELASTIC_RESTART_COUNT"]
with meeting.looked_after():
    if meeting.rank() == 0 and start == "1":
        time.sleep(1)
    said = meeting.agreed("said", lambda: f"by {meeting.rank()} at start {start}")
    assert said == f"by 0 at start {start}", said
    folder = meeting.kept("folder", lambda: f"of {meeting.rank()} at start {start}")
    assert folder == "of 0 at start 0", folder
    dist.init_process_group("gloo")
    dist.barrier()
    if start == "0":
        os._exit(1)
"""


@pytest.mark.thorough
def test_ranks_agree_before_there_is_a_process_group(tmp_path: Path) -> None:
    """Torchrun starts them twice, with one store: what was said at the first start does not count at the second."""
    script = tmp_path / "agreeing.py"
    script.write_text(AGREEING)
    port = launching.shared_environment(2)["MASTER_PORT"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--max-restarts=1",
        f"--master-port={port}",
        str(script),
    ]
    assert subprocess.run(command, timeout=180).returncode == 0
