"""Calls from rank to rank over torch.distributed.rpc (TensorPipe), by which roles meet, agree on an end, and look after
each other; what they train on goes over `costate.execution.asynchronous.lines`.

Whoever can reach an agent's port can run code in its process: agents listen on the loopback interface, unless
`interface` or TP_SOCKET_IFNAME names another one.
"""

import atexit
import os
import socket
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Optional, final

import torch.distributed as dist
from torch.distributed import rpc

FOR_EVER = 7 * 24 * 3600.0
"""Seconds that a call may take: a rank that has died is noticed at once, and one that is slow may be so."""

LOCAL = ("127.0.0.1", "localhost", "::1")


@final
class Wire:
    """This rank's end.

    Args:
        local: what calls of other ranks are made on.
        interface: of the network; None for loopback.

    Raises:
        ValueError: see `choose`.
    """

    _here: Optional["Wire"] = None

    def __init__(self, local: Any, interface: str | None):
        self.local = local
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        Wire._here = self
        os.environ["TP_SOCKET_IFNAME"] = choose(interface, os.environ)
        # The same for lines, whose group is the first over gloo where the others are on GPUs.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", os.environ["TP_SOCKET_IFNAME"])
        options = rpc.TensorPipeRpcBackendOptions(
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

    def ask(self, to: int, call: Callable[..., Any], *arguments: Any) -> Any:
        """Makes a call on another rank and waits for what it returns."""
        if to == self.rank:
            return call(self.local, *arguments)
        return rpc.rpc_sync(self._addresses[to], _answer, (call, arguments))

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
        rpc.shutdown(graceful=gently)


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
