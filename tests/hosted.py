"""train.py on hosts of this machine, started on each as the docs say."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from costate.benchmarks.hosts import Hosts
from running import ROOT, command_lines

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=host0:29400")
PAUSE = ("+callbacks.pause._target_=alarm.Pause", "trainer.progress=lines")
"""A tenth of a second a batch, for something to happen to it."""
FAULTS = "its link is taken away", "it is switched off", "its ranks are killed", "its torchrun is killed"
"""What may happen to a host."""


class Started:
    """The same command on every host, each with its output in a file of the folder; started from there.

    Args:
        environments: of each host, by name.
    """

    def __init__(self, hosts: Hosts, folder: Path, command: Sequence[str], **environments: dict[str, str]):
        self.hosts, self.folder = hosts, folder
        kept = {name: value for name, value in os.environ.items() if name not in ("GLOO_SOCKET_IFNAME", "RANK")}
        paths = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        folder.mkdir(parents=True, exist_ok=True)
        self.programs = {}
        for name in hosts.names:
            with (folder / f"{name}.log").open("wb") as log:
                own = {**kept, **paths, **environments.get(name, {})}
                settings = {"cwd": folder, "env": own, "stdout": log, "stderr": subprocess.STDOUT}
                self.programs[name] = hosts.start(name, command, **settings)

    def told(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def wait(self, happened: Callable[[], object], seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, "\n".join(map(self.told, self.hosts.names))
            time.sleep(0.1)

    def codes(self, *names: str, seconds: float = 600) -> list[int]:
        """With what the program on each host, or on some, has ended."""
        chosen = [self.programs[name] for name in names or self.hosts.names]
        self.wait(lambda: all(program.poll() is not None for program in chosen), seconds)
        return [program.returncode for program in chosen]

    def listening(self) -> dict[str, set[str]]:
        """Addresses at which the ranks of each host have listened, until all have ended."""
        heard: dict[str, set[str]] = {name: set() for name in self.hosts.names}
        while any(program.poll() is None for program in self.programs.values()):
            for name in self.hosts.names:
                for pid in processes(self.hosts, name, str(ROOT / "train.py"), "-u"):
                    try:
                        heard[name] |= listening(pid)
                    except OSError:
                        continue
            time.sleep(0.1)
        return heard


def torchrun(hosts: Hosts, folder: Path, ranks: int, *words: str, restarts: int = 0) -> Started:
    """So many ranks on each host."""
    nodes = len(hosts.names)
    share = [f"--nnodes={nodes}", f"--nproc-per-node={ranks}", f"--max-restarts={restarts}"]
    places = [f"trainer.devices={ranks}", f"trainer.num_nodes={nodes}"]
    return Started(hosts, folder, [*TORCHRUN, *share, str(ROOT / "train.py"), *words, *places])


def processes(hosts: Hosts, name: str, *words: str) -> list[int]:
    """Those on a host whose command lines have these words; what has ended and was not waited for has none."""
    root, found = hosts.network(name), []
    for pid, line in command_lines():
        with contextlib.suppress(OSError):
            same = Path(f"/proc/{pid}/ns/pid").readlink() == Path(f"/proc/{root}/ns/pid").readlink()
            if same and pid != root and line != [""] and set(words) <= set(line):
                found.append(pid)
    return sorted(found)


def take_away(hosts: Hosts, name: str, fault: str) -> None:
    """A host, by one of the faults."""
    if fault == "its link is taken away":
        hosts.cut(name)
    elif fault == "it is switched off":
        hosts.power_off(name)
    else:
        for pid in processes(hosts, name, "-u" if fault == "its ranks are killed" else "torch.distributed.run"):
            os.kill(pid, signal.SIGKILL)


def listening(pid: int) -> set[str]:
    """Addresses at which a process listens; 0.0.0.0 and :: stand for all that its host has."""
    own, found = set(), set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            own.add(str(entry.readlink()))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in own:
                found.add(_written(words[1].partition(":")[0]))
    return found


def _written(address: str) -> str:
    """An address of /proc/net/tcp, whose words of four bytes are in the machine's own order."""
    words = [int(address[i : i + 8], 16) for i in range(0, len(address), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))
