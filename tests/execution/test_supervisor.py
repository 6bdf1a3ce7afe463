"""Ranks that fail, are killed or are interrupted: the others end, nothing is left behind, and one sentence says why."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from costate.execution.launching.supervisor import RankError, Supervisor, report

RANK = """
import os, signal, subprocess, sys, time
from pathlib import Path
rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
def leave(name, text=""):
    (folder / f"unfinished-{rank}").write_text(text)
    (folder / f"unfinished-{rank}").rename(folder / name)
def wait():
    time.sleep(60)
"""

SUPERVISOR = """
import sys
from pathlib import Path
from costate.execution.launching.supervisor import Supervisor
folder = Path(sys.argv[1])
ranks = [{"RANK": "0"}, {"RANK": "1"}]
command = [sys.executable, str(folder / "rank.py"), str(folder)]
Supervisor(command, ranks, folder, patience=float(sys.argv[2]), echo=float(sys.argv[3])).run()
"""


def script(folder: Path, body: str) -> Path:
    (folder / "rank.py").write_text(RANK + body)
    return folder / "rank.py"


def supervise(folder: Path, body: str, ranks: int = 2) -> None:
    command = [sys.executable, str(script(folder, body)), str(folder)]
    Supervisor(command, [{"RANK": str(r)} for r in range(ranks)], folder, grace=0.3).run()


def wait_for(happened: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def pids(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.glob("pid-*")]


def test_ranks_that_end_well_leave_no_trace(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    supervise(tmp_path, "leave(f'pid-{rank}', str(os.getpid())); print('on screen', rank)", ranks=3)
    assert len(set(pids(tmp_path))) == 3
    assert capfd.readouterr().out == "on screen 0\n"
    assert (tmp_path / "rank-1.log").read_text() == "on screen 1\n"


def test_a_silent_rank_leaves_no_empty_log(tmp_path: Path) -> None:
    supervise(tmp_path, "")
    assert not list(tmp_path.glob("*.log"))


FAULTS = {
    "os.kill(os.getpid(), signal.SIGKILL)": ("was killed by SIGKILL (the system does so when memory runs out)", 137),
    "os.kill(os.getpid(), signal.SIGABRT)": ("was ended by SIGABRT", 134),
    "sys.exit(3)": ("ended with exit code 3", 3),
}


@pytest.mark.parametrize(("fault", "victim"), zip(FAULTS, (0, 1, 1), strict=True))
def test_one_rank_ends_and_all_end(tmp_path: Path, fault: str, victim: int) -> None:
    body = f"""
child = subprocess.Popen(["sleep", "60"])
leave(f"pid-{{rank}}", str(os.getpid())); leave(f"pid-child-{{rank}}", str(child.pid))
while len(list(folder.glob("pid-*"))) < 4:
    time.sleep(0.01)
if rank == {victim}:
    {fault}
wait()
"""
    begin = time.monotonic()
    with pytest.raises(RankError) as error:
        supervise(tmp_path, body)
    sentence, code = FAULTS[fault]
    assert str(error.value).startswith(f"Rank {victim} of 2 {sentence}")
    assert "no checkpoint yet" in str(error.value)
    assert error.value.code == code
    assert time.monotonic() - begin < 30
    assert len(pids(tmp_path)) == 4
    assert not any(alive(pid) for pid in pids(tmp_path))


def test_the_sentence_names_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(RankError, match=f"resume={tmp_path}"):
        supervise(tmp_path, "sys.exit(1) if rank else wait()")


def test_the_output_of_a_failed_rank_is_kept_and_named(tmp_path: Path) -> None:
    with pytest.raises(RankError, match=r"rank-1\.log"):
        supervise(tmp_path, "sys.exit('a word') if rank else wait()")
    assert "a word" in (tmp_path / "rank-1.log").read_text()


FAIL = """
from costate.execution.launching.supervisor import report
def fail(error, code):
    try:
        raise error
    except Exception as error:
        assert report(error)
        sys.exit(code)
"""


def test_refused_settings_are_one_sentence_for_all_ranks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"^depth=-1 is no depth.$"):
        supervise(tmp_path, FAIL + "fail(ValueError('depth=-1 is no depth.'), 2)")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("lingers", [0.0, 0.2])
def test_the_first_error_is_told_and_its_consequences_are_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], lingers: float
) -> None:
    """Rank 0 loses its connection as soon as rank 1 has failed, and may well be the first to end."""
    consequence = f"""
import atexit
if rank == 0:
    while not Path(os.environ["COSTATE_RANK_REPORT"]).with_name("1.json").exists():
        time.sleep(0.001)
    fail(ConnectionError("closed by peer"), 1)
atexit.register(time.sleep, {lingers})
fail(KeyError("loss"), 1)
"""
    with pytest.raises(RankError, match=r"^Rank 1 of 2 failed \(KeyError: 'loss'\)"):
        supervise(tmp_path, FAIL + consequence)
    shown = capfd.readouterr().err
    assert shown.count("Traceback") == 1
    assert "ConnectionError" not in shown


def test_without_a_supervisor_an_error_is_not_taken_over() -> None:
    assert not report(ValueError("depth=-1 is no depth."))


CAREFUL = """
def save(signum, frame):
    with open(folder / f"signals-{rank}", "a") as file:
        file.write(f"{signum} ")
    time.sleep(0.5)
    leave(f"saved-{rank}")
    sys.exit(128 + signum)
signal.signal(signal.SIGINT, save); signal.signal(signal.SIGTERM, save)
leave(f"pid-{rank}", str(os.getpid()))
wait()
"""

STUBBORN = """
signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)
leave(f"pid-{rank}", str(os.getpid()))
wait()
"""


REQUEUE = """
import signal
def requeue(signum, frame):
    assert (folder / "saved-0").exists()
    sys.exit(77)
signal.signal(signal.SIGUSR2, requeue)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a supervisor of two ranks in a process of its own."""
    started = []

    def begin(body: str, patience: float = 60, echo: float = 60, program: str = SUPERVISOR) -> subprocess.Popen[str]:
        script(tmp_path, body)
        (tmp_path / "supervisor.py").write_text(program)
        command = [sys.executable, str(tmp_path / "supervisor.py"), str(tmp_path), str(patience), str(echo)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        wait_for(lambda: len(pids(tmp_path)) == 2)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code, and what it has told, once it has ended by itself."""
    _, told = process.communicate(timeout=60)
    return process.returncode, told


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_reaches_each_rank_once_and_is_waited_for(tmp_path: Path, start: Start, signum: int) -> None:
    process = start(CAREFUL)
    # As a terminal does it: to the whole process group.
    os.killpg(process.pid, signum)
    assert ended(process) == (128 + signum, "")
    for rank in range(2):
        assert (tmp_path / f"signals-{rank}").read_text() == f"{int(signum)} "
        assert (tmp_path / f"saved-{rank}").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_repeated_at_once_is_one(tmp_path: Path, start: Start, signum: int) -> None:
    """Two of them, as when a time limit tells a supervisor twice, ended all ranks without a checkpoint."""
    process = start(CAREFUL)
    for _ in range(3):
        process.send_signal(signum)
        time.sleep(0.1)
    assert ended(process) == (128 + signum, "")
    assert all((tmp_path / f"saved-{rank}").exists() for rank in range(2))


def test_what_goes_wrong_on_the_way_to_a_checkpoint_is_told(tmp_path: Path, start: Start) -> None:
    """A rank that failed behind a Ctrl-C did so without a word, and its checkpoint was missing."""
    process = start(FAIL + CAREFUL.replace('leave(f"saved-{rank}")', "fail(OSError('the disk is full'), 1)"))
    process.send_signal(signal.SIGINT)
    code, told = ended(process)
    assert code == 1
    assert told.count("Traceback") == 1
    assert told.endswith("OSError: the disk is full\n")


TELLING = """
if rank == 1:  # alone: what a signal interrupts in its imports ends otherwise than asked
    from costate.execution.launching.supervisor import tell
    tell(signal.SIGTERM)
"""


def test_a_signal_to_one_rank_reaches_the_others(tmp_path: Path, start: Start) -> None:
    process = start(CAREFUL.replace("wait()", f"{TELLING}wait()"))
    assert ended(process) == (128 + signal.SIGTERM, "")
    assert (tmp_path / "signals-0").read_text() == f"{int(signal.SIGTERM)} "


def test_a_preemption_is_a_stop_for_the_ranks_and_then_handed_over(tmp_path: Path, start: Start) -> None:
    program = SUPERVISOR.replace("command =", f"{REQUEUE}command =")
    process = start(CAREFUL, program=program)
    process.send_signal(signal.SIGUSR2)
    assert ended(process)[0] == 77
    assert all((tmp_path / f"saved-{rank}").exists() for rank in range(2))


def test_ranks_that_ignore_an_interruption_are_killed_when_patience_ends(tmp_path: Path, start: Start) -> None:
    process = start(STUBBORN, patience=0.5)
    process.send_signal(signal.SIGTERM)
    code, told = ended(process)
    assert code == 137
    assert "Ranks [0, 1] had not ended 0.5 s after the interruption and were killed" in told
    assert not any(alive(pid) for pid in pids(tmp_path))


def test_a_second_interruption_ends_all_at_once(tmp_path: Path, start: Start) -> None:
    process = start(STUBBORN, echo=0.2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert ended(process) == (137, "")
    assert not any(alive(pid) for pid in pids(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="the system call is Linux's")
def test_no_rank_outlives_a_killed_supervisor(tmp_path: Path, start: Start) -> None:
    process = start(STUBBORN)
    process.kill()
    process.wait()
    wait_for(lambda: not any(alive(pid) for pid in pids(tmp_path)))
