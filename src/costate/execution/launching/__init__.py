"""Several ranks for one run: who starts them, and what each is told.

A run that wants R ranks is started once, by `python train.py ...`. That process becomes the supervisor and starts
train.py again R times with the settings of this very job, a job of a sweep included. Ranks that torchrun has started
do their share at once. Light on purpose (no torch): it is called before anything heavy is imported.
"""

import contextlib
import os
import random
import socket
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from costate.config.words import override
from costate.execution.launching.meeting import rank
from costate.execution.launching.supervisor import RankError, Supervisor, report

__all__ = ["RankError", "delegate", "report"]


def delegate(ranks: int, hosts: int = 1, again: bool = False) -> bool:
    """Runs the current Hydra job as `ranks` processes; False where this process is to do its share of it itself.

    Args:
        ranks: over all hosts.
        hosts: that the ranks are spread over; more than one needs torchrun.
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
        # Of the jobs that SLURM runs each has its own ranks.
        if HydraConfig.get().mode == RunMode.MULTIRUN and "Slurm" not in HydraConfig.get().launcher._target_:
            raise ValueError("A sweep starts the ranks of each job itself: leave torchrun out, or run a single job.")
        return False
    if ranks == 1:
        return False
    if hosts > 1:
        raise ValueError(
            f"trainer.num_nodes={hosts} needs torchrun on every host: "
            f"torchrun --nnodes={hosts} --nproc-per-node={ranks // hosts} --rdzv-backend=c10d "
            "--rdzv-endpoint=HOST:29400 train.py ..."
        )
    environment = shared_environment(ranks)
    environments = [{**environment, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(ranks)]
    Supervisor(_command(again), environments, Path(HydraConfig.get().runtime.output_dir)).run()
    return True


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
    if loopback and "GLOO_SOCKET_IFNAME" not in os.environ:
        environment["GLOO_SOCKET_IFNAME"] = min(loopback)
    return environment


def _free_port() -> int:
    """Below the range from which the system gives ports away by itself: the ranks take seconds to come to it."""
    while True:
        port = random.SystemRandom().randrange(20000, 32768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
