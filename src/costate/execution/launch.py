"""Several ranks for one run: who starts them, and what each is told.

A run that wants R ranks is started once, by `python train.py ...`. That process becomes the supervisor and starts
train.py again R times with the settings of this very job, a job of a sweep included. Ranks that torchrun has started
do their share at once. Light on purpose (no torch): it is called before anything heavy is imported.
"""

import contextlib
import json
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from costate.execution.supervisor import RankError, Supervisor, report
from costate.words import override

__all__ = ["RankError", "agreed", "compare", "delegate", "rank", "report"]


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
    """What `make` returns on rank 0, on every rank: for ranks of torchrun, which share nothing but an address."""
    if rank() is None:
        return make()
    if rank() == 0:
        _store().set(name, make())
    return _store().get(name).decode()


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


def _leaves(tree: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


@cache
def _store() -> Any:
    """Kept as long as the process lives: it may be the one that the others, and the process group, connect to."""
    from torch.distributed import PrefixStore, TCPStore, rendezvous

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if rank() == 0 and address == "127.0.0.1" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        # Torch's own would listen on every interface; the process group finds this one in its place.
        door = socket.create_server((address, port))
        store = TCPStore(address, port, is_master=True, multi_tenant=True, master_listen_fd=door.detach())
    else:
        store, _, _ = next(rendezvous("env://"))
    return PrefixStore("costate", store)


def delegate(ranks: int, hosts: int = 1, restart: bool = False, again: bool = False) -> bool:
    """Runs the current Hydra job as `ranks` processes; False where this process is to do its share of it itself.

    Args:
        ranks: over all hosts.
        hosts: that the ranks are spread over; more than one needs torchrun.
        restart: whether a run of which a rank has failed goes on from its last checkpoint, as long as there is a newer
            one each time.
        again: whether the run is there already, to go on with.

    Raises:
        ValueError: torchrun has started a sweep or another number of ranks, or is needed for several hosts; or a rank
            refused its settings.
        RankError: a rank failed.
        SystemExit: the ranks were interrupted.
    """
    if rank() is not None:
        if int(os.environ["WORLD_SIZE"]) != ranks:
            raise ValueError(
                f"{os.environ['WORLD_SIZE']} ranks were started and the settings ask for {ranks}: "
                f"let trainer.devices × trainer.num_nodes and the number of processes agree."
            )
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise ValueError("A sweep starts the ranks of each job itself: leave torchrun out, or run a single job.")
        return False
    if ranks == 1:
        return False
    if hosts > 1:
        raise ValueError(
            f"trainer.num_nodes={hosts} needs torchrun on every host: "
            f"torchrun --nnodes={hosts} --nproc-per-node={ranks // hosts} --rdzv-endpoint=HOST:PORT train.py ..."
        )
    folder = Path(HydraConfig.get().runtime.output_dir)
    seen: list[float] = []
    while True:
        try:
            _supervise(ranks, folder, again or (seen[-1:] > [0.0] and (folder / "config.yaml").exists()))
            return True
        except RankError as error:
            seen.append(_saved(folder))
            if not restart or seen[-1:] == seen[-2:-1]:
                raise
            print(f"{error} Starting again (execution.restart=true).", file=sys.stderr, flush=True)


def _supervise(ranks: int, folder: Path, again: bool) -> None:
    environment = shared_environment(ranks)
    environments = [{**environment, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(ranks)]
    Supervisor(_command(again), environments, folder).run()


def _saved(folder: Path) -> float:
    """When the last checkpoint was written; 0 without one."""
    last = folder / "checkpoints" / "last.ckpt"
    return last.stat().st_mtime if last.exists() else 0.0


def _command(again: bool) -> list[str]:
    """train.py with the settings of this job, and this job's folder; again: it goes on with what is there."""
    hydra = HydraConfig.get()
    command = [sys.executable, str(Path(sys.argv[0]).resolve()), f"--config-name={hydra.job.config_name}"]
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            command += ["--config-dir", source.path]
    command += [word for word in hydra.overrides.hydra if word.startswith("hydra.searchpath=")]
    folder = hydra.runtime.output_dir
    # Hydra's own records of the job are this process's.
    own = [override("hydra.run.dir", folder), "hydra.mode=RUN", "hydra.output_subdir=null", "hydra/job_logging=none"]
    if again and not any(word.startswith("resume=") for word in hydra.overrides.task):
        return [*command, override("resume", folder), *own]
    return [*command, *hydra.overrides.task, *own]


def shared_environment(ranks: int) -> dict[str, str]:
    environment = {
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        # By this Lightning knows that its processes have been started for it, inside a SLURM job too.
        "TORCHELASTIC_RUN_ID": "costate",
        # As torchrun has it: ranks that share their cores with their own threads get slower, not faster.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        # Of a rank that is gone the supervisor tells in one sentence, and torch's C++ in many.
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
    }
    # All on one host: gloo would look up the host's name, which a closed network may not know.
    loopback = {name for _, name in socket.if_nameindex()} & {"lo", "lo0"}
    for name in ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME"):
        if loopback and name not in os.environ:
            environment[name] = min(loopback)
    return environment


def _free_port() -> int:
    """Below the range from which the system gives ports away by itself: the ranks take seconds to come to it."""
    while True:
        port = random.SystemRandom().randrange(20000, 32768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
