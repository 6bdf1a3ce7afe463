"""Hosts on one machine: Linux namespaces with their own address, name, loopback and processes, joined by a switch.

    host0 — eth0 — switch — eth0 — host1        10.77.0.1, 10.77.0.2, ...

A host is one process in namespaces of its own. When that ends, as it does when we end, however we end, the kernel ends
the others in it and takes its links away. Needs root, `ip` and `tc` (iproute2), `sysctl` (procps), `unshare` and
`nsenter` (util-linux).

A switch that takes its time is this module as a program, as few kernels have netem:

    python -m costate.benchmarks.hosts INTERFACE SECONDS PID:ADDRESS ...

Each host, given by a process in its network, gets an interface whose packets come here; each packet goes on to the host
of its address, whatever its size, and none is lost: so many seconds later from the signal FAR on, at once from NEAR on.
A link is made slow or far while processes are at work on it (`Throttle`), so that both are measured side by side.
"""

import ctypes
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

from costate.execution.launching.supervisor import end_with_parent

TOOLS = "ip", "tc", "sysctl", "unshare", "nsenter"
SWITCH = "switch"
ROOT = (
    'mount --bind "$1/hosts" /etc/hosts && hostname "$2" && ip link set lo up && touch "$1/$2" && exec sleep infinity'
)
"""The first process of a host, in a shell: hosts know each other by name."""

BURST = 1e-4
"""Seconds of the rate that may go at once, above it: with more, a message after a pause is free."""
FAR, NEAR = signal.SIGUSR1, signal.SIGUSR2
"""What the switch is told."""

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI, SIOCSIFMTU = 0x400454CA, 0x0001, 0x1000, 0x8922
BUFFERS = {"tcp_rmem": "4096 4194304 33554432", "tcp_wmem": "4096 4194304 33554432"}
"""Least, first and most bytes that a connection has under way: a far link carries a message whole, the first too."""
CONGESTION = "cubic"
"""Linux's own. BBR takes one message a round trip for what the link can do, and stretches it over half of that time."""
JUMBO = 9000
"""Bytes of a packet of the kernel's switch: each that is shaped takes ten microseconds from whoever computes."""
MTU = 60000
"""Bytes of the switch's packets: few large ones, as Python takes ten microseconds for each."""


@cache
def lacking() -> str:
    """What this machine lacks for hosts of its own; nothing if they can be had."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces are made by root on Linux"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} not there (iproute2, procps, util-linux)"
    try:
        with Hosts(2):
            return ""
    except (OSError, RuntimeError) as fault:
        return f"no network namespaces here ({fault})"


@final
class Hosts:
    """So many hosts, for as long as it is entered.

    Args:
        delay: seconds that a packet takes from host to host where a throttle is on, by a switch of ours; 0 is the
            kernel's own switch.

    Attributes:
        names: of the hosts.
        interface: of each, by which it reaches the others.
    """

    interface = "eth0"

    def __init__(self, count: int, delay: float = 0.0):
        self.names = [f"host{i}" for i in range(count)]
        self.delay = delay
        self._roots: dict[str, subprocess.Popen[bytes]] = {}
        self._inside: dict[str, int] = {}
        self._started: list[subprocess.Popen[Any]] = []
        self._switch: int | None = None

    def address(self, name: str) -> str:
        return f"10.77.0.{1 + self.names.index(name)}"

    def __enter__(self) -> "Hosts":
        self._folder = tempfile.TemporaryDirectory()
        try:
            self._build(Path(self._folder.name))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for name in self._roots:
            self.power_off(name)
        for process in self._started:
            process.kill()
            process.wait()
        self._folder.cleanup()

    def start(self, name: str, command: Sequence[str], **settings: Any) -> "subprocess.Popen[Any]":
        """A command on a host; settings are those of Popen."""
        spaces = ["--net", "--pid", "--uts", "--mount", f"--wdns={settings.pop('cwd', Path.cwd())}"]
        words = ["nsenter", f"--target={self._inside[name]}", *spaces, "--", *command]
        process = subprocess.Popen(words, preexec_fn=end_with_parent, **settings)
        self._started.append(process)
        return process

    def cut(self, name: str, end: str = "down") -> None:
        """Takes a host's link down, or "up" again."""
        self._on(name, "ip", "link", "set", self.interface, end)

    def power_off(self, name: str) -> None:
        """Ends a host with all that runs on it."""
        self._roots[name].kill()
        self._roots[name].wait()

    def _build(self, folder: Path) -> None:
        lines = ["127.0.0.1 localhost", *(f"{self.address(name)} {name}" for name in self.names)]
        (folder / "hosts").write_text("\n".join(lines) + "\n")
        for name in (SWITCH, *self.names):
            self._roots[name] = _root(name, folder)
        for name, root in self._roots.items():
            self._inside[name] = _first(root, folder / name)
        if self.delay:
            self._start_switch()
        else:
            self._on(SWITCH, "ip", "link", "add", SWITCH, "type", "bridge")
            self._on(SWITCH, "ip", "link", "set", SWITCH, "up")
        for name in self.names:
            if not self.delay:
                port = ["peer", "name", name, "netns", str(self._inside[SWITCH])]
                self._on(name, "ip", "link", "add", self.interface, "mtu", str(JUMBO), "type", "veth", *port)
                self._on(SWITCH, "ip", "link", "set", name, "mtu", str(JUMBO), "master", SWITCH, "up")
            self._on(name, "ip", "addr", "add", f"{self.address(name)}/24", "dev", self.interface)
            self._on(name, "ip", "link", "set", self.interface, "up")
            self._on(name, "ip", "route", "change", "10.77.0.0/24", "dev", self.interface, "congctl", CONGESTION)
            self._on(name, "sysctl", "-qw", *(f"net.ipv4.{key}={value}" for key, value in BUFFERS.items()))

    def _start_switch(self) -> None:
        ports = [f"{self._inside[name]}:{self.address(name)}" for name in self.names]
        command = [sys.executable, "-m", "costate.benchmarks.hosts", self.interface, str(self.delay), *ports]
        switch = subprocess.Popen(command, preexec_fn=end_with_parent, stdout=subprocess.PIPE)
        self._started.append(switch)
        self._switch = switch.pid
        assert switch.stdout is not None, "asked for"
        if not switch.stdout.readline():
            raise RuntimeError("the switch has ended")

    def throttle(self, rate: float | None = None) -> "Throttle":
        """For processes in the hosts' networks."""
        return Throttle(self.interface, rate, self._switch)

    def network(self, name: str) -> int:
        """A process of the host, for others to take its network by `enter`."""
        return self._inside[name]

    def _on(self, name: str, *command: str) -> None:
        # With our own numbers of processes, by which a link's other end is put elsewhere.
        words = ["nsenter", f"--target={self._inside[name]}", "--net", "--", *command]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Throttle:
    """Makes the links slow or far, and fast and near again; each host turns its own.

    Args:
        rate: Mb/s that the host sends at most; None is as fast as the machine can.
        switch: the process of a switch of ours.
    """

    interface: str
    rate: float | None
    switch: int | None

    @property
    def limits(self) -> bool:
        return self.rate is not None or self.switch is not None

    def __call__(self, on: bool) -> None:
        if self.switch is not None:
            os.kill(self.switch, FAR if on else NEAR)
        if self.rate is not None:
            burst = max(JUMBO + 100, round(self.rate * 1e6 / 8 * BURST))
            slow = ["tbf", "rate", f"{self.rate}mbit", "burst", str(burst), "latency", "400ms"]
            words = ["tc", "qdisc", "replace", "dev", self.interface, "root", *(slow if on else ["noqueue"])]
            subprocess.run(words, check=True)


def _root(name: str, folder: Path) -> subprocess.Popen[bytes]:
    spaces = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    words = ["unshare", *spaces, "sh", "-c", ROOT, "sh", str(folder), name]
    return subprocess.Popen(words, preexec_fn=end_with_parent, stdin=subprocess.DEVNULL)


def _first(root: subprocess.Popen[bytes], mark: Path) -> int:
    """The host's first process, as we number it, once it is there."""
    while not mark.exists():
        if root.poll() is not None:
            raise RuntimeError(f"{mark.name} has ended with exit code {root.returncode}")
        time.sleep(0.01)
    return int(Path(f"/proc/{root.pid}/task/{root.pid}/children").read_text().split()[0])


def enter(pid: int) -> None:
    """Takes the network of another process, for all that this one opens from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/net") as space:
        if libc.setns(space.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"the network of {pid} cannot be entered")


def plug(pid: int, interface: str) -> int:
    """An interface in the network of a process."""
    enter(pid)
    wire = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(wire, TUNSETIFF, struct.pack("16sH", interface.encode(), IFF_TUN | IFF_NO_PI))
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFMTU, struct.pack("16si", interface.encode(), MTU))
    return wire


def forward(wires: dict[bytes, int], delay: float) -> None:
    """For ever."""
    under_way: deque[tuple[float, int, bytes]] = deque()
    ports, far = list(wires.values()), False

    def turn(signum: int, frame: object) -> None:
        nonlocal far
        far = signum == FAR

    for signum in (FAR, NEAR):
        signal.signal(signum, turn)
    print("ready", flush=True)
    while True:
        due = under_way[0][0] - time.monotonic() if under_way else None
        for port in select.select(ports, [], [], due if due is None else max(0.0, due))[0]:
            packet = os.read(port, 65535)
            to = wires.get(packet[16:20])  # of whom a packet of IPv4 is for
            if to is not None:
                under_way.append((time.monotonic() + far * delay, to, packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, to, packet = under_way.popleft()
            os.write(to, packet)


def main() -> None:
    _, interface, delay, *hosts = sys.argv
    wires = {}
    for pid, address in (host.split(":") for host in hosts):
        wires[socket.inet_aton(address)] = plug(int(pid), interface)
    forward(wires, float(delay))


if __name__ == "__main__":
    main()
