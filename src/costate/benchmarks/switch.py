"""A switch that takes its time: python -m costate.benchmarks.switch INTERFACE SECONDS PID:ADDRESS ...

Each host, given by a process in its network, gets an interface whose packets come here; each packet goes on to the host
of its address so many seconds later, whatever its size, and none is lost.
"""

import fcntl
import os
import select
import socket
import struct
import sys
import time
from collections import deque

from costate.benchmarks.hosts import enter

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
LARGEST = 65535
MTU = 60000
"""Bytes: few large packets, as Python takes ten microseconds for each."""
ADDRESS = slice(16, 20)
"""Of whom a packet of IPv4 is for."""


def plug(pid: int, interface: str) -> int:
    """An interface in the network of a process."""
    enter(pid)
    wire = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(wire, TUNSETIFF, struct.pack("16sH", interface.encode(), IFF_TUN | IFF_NO_PI))
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8922, struct.pack("16si", interface.encode(), MTU))  # SIOCSIFMTU
    return wire


def forward(wires: dict[bytes, int], delay: float) -> None:
    """For ever."""
    under_way: deque[tuple[float, int, bytes]] = deque()
    ports = list(wires.values())
    while True:
        due = under_way[0][0] - time.monotonic() if under_way else None
        for port in select.select(ports, [], [], due if due is None else max(0.0, due))[0]:
            packet = os.read(port, LARGEST)
            to = wires.get(packet[ADDRESS])
            if to is not None:
                under_way.append((time.monotonic() + delay, to, packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, to, packet = under_way.popleft()
            os.write(to, packet)


def main() -> None:
    _, interface, delay, *hosts = sys.argv
    wires = {}
    for pid, address in (host.split(":") for host in hosts):
        wires[socket.inet_aton(address)] = plug(int(pid), interface)
    print("ready", flush=True)
    forward(wires, float(delay))


if __name__ == "__main__":
    main()
