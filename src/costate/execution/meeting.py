"""Ranks that somebody else has started find each other, before there is a process group, by the store of torch.

A store of torchrun's outlives its ranks, and what a rank of an earlier start has said is not to be believed. So rank 0
makes a new place in it at each start, and says where as long as it lives:

    door          rank 0's new place and a number that rises: the others go where they have seen it rise
    <place>/...   what is agreed on in this start
"""

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from costate.execution.supervisor import is_supervised
from costate.execution.watch import BEAT, Watch

DOOR = "costate/door"
LOCAL = ("127.0.0.1", "localhost")

_watching: list[Watch] = []


def rank() -> int | None:
    """This process's number among the ranks of a run, or None if it is no rank, or the only one."""
    return int(os.environ["RANK"]) if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1 else None


def check_address() -> None:
    """Of ranks that somebody else has started, before they look for each other.

    Raises:
        ValueError: nobody has said where they are to meet.
    """
    lacking = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if rank() is not None and lacking:
        raise ValueError(
            f"RANK and WORLD_SIZE are set, and {' and '.join(lacking)} not: without it ranks do not find each other. "
            "Start them by torchrun, set all four, or unset RANK for a run of one process."
        )


def agreed(name: str, make: Callable[[], str]) -> str:
    """What `make` returns on rank 0, on every rank: for ranks that share nothing but an address."""
    if rank() is None:
        return make()
    if rank() == 0:
        _store().set(name, make())
    return _store().get(name).decode()


def kept(name: str, make: Callable[[], str]) -> str:
    """The same, and the same again when torchrun starts the ranks once more."""
    if rank() is None:
        return make()
    if rank() == 0 and not _door().check([name]):
        _door().set(name, make())
    return _door().get(name).decode()


def compare(settings: Any) -> None:
    """Every rank compares its settings with those of rank 0.

    Raises:
        ValueError: they are not the same, as where hosts have been started by different commands.
    """
    if rank() is None:
        return
    theirs = json.loads(agreed("settings", lambda: json.dumps(settings)))
    mine = json.loads(json.dumps(settings))
    for key, value in _leaves(mine | dict.fromkeys(theirs.keys() - mine.keys())):
        other: Any = theirs
        for name in key:
            other = other.get(name) if isinstance(other, dict) else None
        if value != other:
            name = ".".join(key)
            raise ValueError(
                f"Rank {rank()} was started with {name}={value} and rank 0 with {name}={other}: "
                "start all ranks by the same command."
            )


@contextmanager
def looked_after() -> Iterator[None]:
    """Every rank enters it for as long as it works; a supervisor looks after its ranks itself."""
    number = rank()
    if number is None or is_supervised() or _watching:
        yield
        return
    client = _client()

    def announce(count: int) -> None:
        if number == 0 and _kept_by_agent():
            client.set(DOOR, f"{_place()} {count}")

    with Watch(_at_place(client), number, int(os.environ["WORLD_SIZE"]), os.environ["MASTER_ADDR"], announce) as watch:
        _watching.append(watch)
        try:
            yield
        except Exception as error:
            watch.tell(error)
            raise
        finally:
            _watching.clear()


def tell(error: BaseException) -> None:
    """Tells the other ranks of an error, and waits for its cause where that may be another rank's."""
    for watch in _watching:
        watch.tell(error)


def at_work_in(folder: Path) -> None:
    """Says where the run's checkpoints are."""
    for watch in _watching:
        watch.folder = folder


def _leaves(tree: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


@cache
def _store() -> Any:
    """This start's."""
    return _at_place(_door())


def _at_place(store: Any) -> Any:
    from torch.distributed import PrefixStore

    return PrefixStore(f"costate/{_place()}", store)


@cache
def _place() -> str:
    if not _kept_by_agent():
        return "once"
    if rank() == 0:
        return uuid.uuid4().hex
    before = _door().get(DOOR)
    while True:
        time.sleep(BEAT / 4)
        now = _door().get(DOOR)
        if now != before and now.split()[0] == before.split()[0]:
            return now.split()[0].decode()
        before = now


def _kept_by_agent() -> bool:
    """Whether torchrun keeps the store, for one start after the other."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


@cache
def _door() -> Any:
    """Kept as long as the process lives: it may be the one that the others, and the process group, connect to."""
    from torch.distributed import TCPStore, rendezvous

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if rank() == 0 and not _kept_by_agent() and _is_of_one_interface(address):
        # Torch's own would listen on every interface; the process group finds this one in its place.
        door = socket.create_server((address, port))
        return TCPStore(address, port, is_master=True, multi_tenant=True, master_listen_fd=door.detach())
    store, _, _ = next(rendezvous("env://"))
    return store


def _is_of_one_interface(address: str) -> bool:
    """Whether others find this host at what we take its name for: many a host takes its own name for loopback."""
    with contextlib.suppress(OSError):
        return address in LOCAL or not socket.gethostbyname(address).startswith("127.")
    return False


def _client() -> Any:
    """A connection of its own: one that waits for an answer keeps whoever shares it waiting."""
    from torch.distributed import TCPStore

    _door()
    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
