"""What can be trained asynchronously: stages that go on under what a synthesizer says."""

from collections.abc import Sequence

from costate.core.schedules import Operation
from costate.core.stage import Stage
from costate.interfaces import Learning
from costate.methods import Method

REFUSAL = "execution=asynchronous has no stage that waits for a true gradient"


def check(stages: Sequence[Stage], method: Method, lag: int, max_staleness: int, queue: int) -> None:
    """Before anything is started.

    Raises:
        ValueError: the settings cannot be played asynchronously.
    """
    count = len(stages)
    if count < 2:
        raise ValueError("execution=asynchronous puts each stage on a process of its own: choose stages=2 or more.")
    if not all(isinstance(stage.interface, Learning) for stage in stages[:-1]):
        raise ValueError("execution=asynchronous has an oracle of synthetic gradients: choose method=sg.")
    for n in (0, 10**9):
        updated = [k for operation, k, _ in method.schedule(count, n, lag) if operation is Operation.UPDATE]
        if updated != list(range(count)):
            raise ValueError(f"{REFUSAL}: choose method.warmup_steps=0 and method.mix=0, or execution=pipeline.")
    if max_staleness == 0 and queue <= lag:
        raise ValueError(
            f"execution.queue={queue} has no room for what execution.lag={lag} leaves waiting: "
            f"choose at least {lag + 1}."
        )
