"""Calls from rank to rank over torch.distributed.rpc (TensorPipe): a thin layer, which keeps order and counts.

Whoever can reach an agent's port can run code in its process: agents listen on the loopback interface, unless
`interface` or TP_SOCKET_IFNAME names another one.
"""

import atexit
import os
import socket
import sys
import threading
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Optional, final

import torch.distributed as dist
from torch.distributed import rpc

WINDOW = 64
"""Messages to one rank that may be on the wire at once; on the other end they are put into a queue without delay."""

FOR_EVER = 7 * 24 * 3600.0
"""Seconds that a call may take: a rank that has died is noticed at once, and one that is slow may be so."""

THREADS = 8
"""That take calls off the wire, beside one a rank that may wait for an answer."""

LOCAL = ("127.0.0.1", "localhost", "::1")


@final
class Wire:
    """This rank's end.

    Args:
        local: what calls of other ranks are made on; its `close` is called where a run fails.
        interface: of the network; None for loopback.

    Attributes:
        sent, received: messages by rank; replies to questions are not counted.

    Raises:
        ValueError: see `choose`.
    """

    _here: Optional["Wire"] = None

    def __init__(self, local: Any, interface: str | None):
        self.local = local
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self.sent: dict[int, int] = defaultdict(int)
        self._lines: dict[int, _Line] = defaultdict(_Line)
        self._under_way: dict[int, deque[Any]] = defaultdict(deque)
        Wire._here = self
        os.environ["TP_SOCKET_IFNAME"] = choose(interface, os.environ)
        options = rpc.TensorPipeRpcBackendOptions(
            num_worker_threads=THREADS + self.ranks,
            rpc_timeout=FOR_EVER,
            # Its shared memory is polled by a thread that never sleeps, on a core that a role could have.
            _transports=["uv"],
            _channels=["basic"],
        )
        # A thread that answers gets the interpreter from one that computes after 5 ms otherwise.
        sys.setswitchinterval(1e-4)
        with warnings.catch_warnings():
            # About what torch does itself, with the group by which agents find each other.
            warnings.filterwarnings("ignore", "You are using a Backend")
            rpc.init_rpc(_name(self.rank), rank=self.rank, world_size=self.ranks, rpc_backend_options=options)
        # A run that fails hangs up by itself: an agent that runs keeps the interpreter from its end.
        atexit.register(self.close, gently=False)
        self._addresses = [rpc.get_worker_info(_name(rank)) for rank in range(self.ranks)]

    @property
    def received(self) -> dict[int, int]:
        return {rank: line.done for rank, line in self._lines.items()}

    def send(self, to: int, call: Callable[..., None], *arguments: Any) -> None:
        """Makes a call on another rank and does not wait for it; calls arrive in the order in which they are sent."""
        if to == self.rank:
            call(self.local, *arguments)
            return
        under_way = self._under_way[to]
        while under_way and (under_way[0].done() or len(under_way) >= WINDOW):
            under_way.popleft().wait()
        under_way.append(rpc.rpc_async(self._addresses[to], _deliver, self._numbered(to, call, arguments)))

    def ask(self, to: int, call: Callable[..., Any], *arguments: Any) -> Any:
        """Makes a call on another rank and waits for what it returns."""
        if to == self.rank:
            return call(self.local, *arguments)
        return rpc.rpc_sync(self._addresses[to], _answer, (call, arguments))

    def exchange(self, to: int, call: Callable[..., Any], *arguments: Any) -> Any:
        """As `ask`, of another rank, with a message that counts as one that is sent."""
        return rpc.rpc_sync(self._addresses[to], _exchange, self._numbered(to, call, arguments))

    def _numbered(self, to: int, call: Callable[..., Any], arguments: tuple[Any, ...]) -> "_Message":
        self.sent[to] += 1
        return self.rank, self.sent[to] - 1, call, arguments

    def flush(self) -> None:
        """Waits until all that was sent has arrived."""
        for under_way in self._under_way.values():
            while under_way:
                under_way.popleft().wait()

    def look(self) -> None:
        """Raises a RuntimeError if another rank is no longer there."""
        for address in self._addresses:
            if address.id != self.rank:
                rpc.rpc_sync(address, _nothing)

    def close(self, gently: bool = True) -> None:
        """Hangs up; gently, when all ranks do so together."""
        if Wire._here is not self:
            return
        Wire._here = None
        if not gently:
            # An agent's end waits for its threads, and those for what will not come.
            self.local.close()
        rpc.shutdown(graceful=gently)


@final
class _Line:
    """What one rank sends: threads take messages off the wire in any order, and they are played in that of sending."""

    def __init__(self) -> None:
        self.done = 0
        self._early: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()

    def arrive(self, number: int, call: Callable[[], None]) -> None:
        with self._lock:
            self._early[number] = call
            while self.done in self._early:
                self._early.pop(self.done)()
                self.done += 1


_Message = tuple[int, int, Callable[..., Any], tuple[Any, ...]]
"""The sender, its number on that line, and a call with its arguments."""


def _deliver(sender: int, number: int, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    here = Wire._here
    assert here is not None, "agents meet when all have one"
    here._lines[sender].arrive(number, partial(call, here.local, *arguments))


def _exchange(sender: int, number: int, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    answer = _answer(call, arguments)
    _deliver(sender, number, _counted, ())
    return answer


def _counted(_: Any) -> None:
    """What an exchange has to do once it is answered: to have arrived."""


def _answer(call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    assert Wire._here is not None, "agents meet when all have one"
    return call(Wire._here.local, *arguments)


def _nothing() -> None:
    return None


def _name(rank: int) -> str:
    return f"rank{rank}"


def choose(interface: str | None, environment: Mapping[str, str]) -> str:
    """The network interface to listen on: the one that is named, else loopback.

    Raises:
        ValueError: none is named, and some ranks are on other hosts.
    """
    named = interface or environment.get("TP_SOCKET_IFNAME")
    if named:
        return named
    ranks = environment.get("WORLD_SIZE")
    here = environment.get("LOCAL_WORLD_SIZE", ranks if environment.get("MASTER_ADDR") in LOCAL else None)
    if here != ranks:
        raise ValueError(
            "execution=asynchronous listens on loopback alone, and its ranks are on several hosts: name the network "
            "interface that they share, execution.interface=eth0; whoever reaches its ports there can run code as you."
        )
    return next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "lo")
