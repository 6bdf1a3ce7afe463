"""Ranks that somebody else has started find each other, before there is a process group, by a store of torch.

Torchrun's store outlives its ranks, and what ranks of an earlier start have said there is not to be believed. So at
each start rank 0 opens a store of its own, and announces it in torchrun's as long as it lives: the others go where they
have seen it announced anew.
"""

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from costate.execution.launching.supervisor import is_supervised
from costate.execution.launching.watch import BEAT, FIRST, Watch

AGENT, DOOR = "TORCHELASTIC_USE_AGENT_STORE", "costate/door"
LOCAL = ("127.0.0.1", "localhost")

_watching: list[Watch] = []


def rank() -> int | None:
    """This process's number among the ranks of a run, or None if it is no rank, or the only one."""
    return int(os.environ["RANK"]) if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1 else None


def take_place() -> None:
    """A task of `srun`, one a rank, to whom nobody has said its place takes it from what SLURM says."""
    told = os.environ
    if "RANK" in told or told.get("SLURM_STEP_NUM_TASKS", "1") == "1":
        return
    job, here = int(told["SLURM_JOB_ID"]), re.match(r"\d+", told["SLURM_STEP_TASKS_PER_NODE"])
    assert here is not None, "2(x3),1"
    told |= {
        "RANK": told["SLURM_PROCID"],
        "WORLD_SIZE": told["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": told["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": here[0],
        "MASTER_ADDR": first_host(told["SLURM_STEP_NODELIST"]),
        # Below those that systems give away by themselves.
        "MASTER_PORT": str(20000 + job % 12000),
        # By this Lightning knows that its processes have been started for it.
        "TORCHELASTIC_RUN_ID": f"slurm-{job}",
    }


def first_host(nodes: str) -> str:
    """Of a list as SLURM writes it: node[03-05,07],other -> node03."""
    found = re.match(r"([^,\[]+)(?:\[(\w+))?", nodes)
    assert found is not None, "a name"
    return found[1] + (found[2] or "")


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
    store = _agent() or _store()
    if rank() == 0 and not store.check([name]):
        store.set(name, make())
    return store.get(name).decode()


def compare(settings: Any) -> None:
    """Every rank compares its settings with those of rank 0.

    Raises:
        ValueError: they are not the same, as where hosts have been started by different commands.
    """
    if rank() is None:
        return
    own = json.dumps(settings)
    mine, theirs = (dict(_leaves(json.loads(told))) for told in (own, agreed("settings", lambda: own)))
    for name in mine | theirs:
        if mine.get(name) != theirs.get(name):
            raise ValueError(
                f"Rank {rank()} was started with {name}={mine.get(name)} and rank 0 with {name}={theirs.get(name)}: "
                "start all ranks by the same command."
            )


@contextmanager
def looked_after() -> Iterator[None]:
    """Every rank enters it for as long as it works; a supervisor looks after its ranks itself."""
    number = rank()
    if number is None or is_supervised() or _watching:
        yield
        return
    agent, _ = _agent(), _store()

    def announce(count: int) -> None:
        if number == 0 and agent is not None:
            agent.set(DOOR, f"{os.environ['MASTER_PORT']} {count}")

    with Watch(_client(), number, int(os.environ["WORLD_SIZE"]), os.environ["MASTER_ADDR"], announce) as watch:
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


def _leaves(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


@cache
def _store() -> Any:
    """This start's; kept as long as the process lives: on rank 0 it is the one that the others connect to."""
    agent = _agent()
    if agent is None:
        return _open(int(os.environ["MASTER_PORT"])) if rank() == 0 else _client()
    store = _open(0) if rank() == 0 else None
    port = str(store.port) if store is not None else _announced(agent)
    # For the process group, too: it would read where ranks of an earlier start have listened.
    os.environ |= {"MASTER_PORT": port, AGENT: "False"}
    return store or _client()


def _announced(agent: Any) -> str:
    """The port that rank 0 announces while we look."""
    before = agent.get(DOOR).split()
    while True:
        time.sleep(BEAT / 4)
        now = agent.get(DOOR).split()
        if now != before and now[0] == before[0]:
            return now[0].decode()
        before = now


@cache
def _agent() -> Any:
    """Torchrun's store, which sees one start after the other; None where there is none."""
    return _client(FIRST) if os.environ.get(AGENT) == "True" else None


def _open(port: int) -> Any:
    """A store of this process; torch's own would listen on every interface."""
    from torch.distributed import TCPStore

    address = os.environ["MASTER_ADDR"]
    door = socket.create_server((address if _is_found_at(address) else "", port))
    port = door.getsockname()[1]
    return TCPStore(address, port, is_master=True, multi_tenant=True, master_listen_fd=door.detach())


def _is_found_at(address: str) -> bool:
    """Whether others find this host at what it takes a name for: many a host takes its own name for loopback."""
    with contextlib.suppress(OSError):
        return address in LOCAL or not socket.gethostbyname(address).startswith("127.")
    return False


def _client(seconds: float = 300.0) -> Any:
    """A connection of its own, for as long to wait: one that waits for an answer keeps whoever shares it waiting."""
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timedelta(seconds=seconds))
