"""In which order the stages of a network work: pure generators of operations, without torch.

Three operations, each of one stage k on one batch n:

    forward k n   h_k = block_k(h_{k-1}); h_k goes down to stage k+1
    update  k n   the backward pass of block k under the gradient at h_k; its input's gradient goes up to stage k-1
    learn   k n   the interface between k and k+1 learns from the gradient that stage k+1 sent up

A stage steps its weights, and its interface's, after its operations of one call. `lag` is how many batches late an
interface learns; one that does not learn is done with the gradient then. Every message is sent before it is used: h_k
in `forward k`, the gradient at h_k in `update k+1`.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import pairwise
from typing import NamedTuple


class Operation(Enum):
    """What a stage does."""

    FORWARD = "forward"
    UPDATE = "update"
    LEARN = "learn"


class Event(NamedTuple):
    """One operation of one stage on one batch."""

    operation: Operation
    stage: int
    batch: int


def locked(stages: int, batch: int, lag: int = 0) -> Iterator[Event]:
    """The backward lock: nobody updates before the gradient has come up from the last stage.

        stage 0   F . . . . U L
        stage 1   . F . . U . .  L
        stage 2   . . F U . . .

    Time runs to the right; the lag is 0.
    """
    for k in range(stages):
        yield Event(Operation.FORWARD, k, batch)
    for k in reversed(range(stages)):
        yield Event(Operation.UPDATE, k, batch)
    yield from _learn(stages, batch - lag)


def decoupled(stages: int, batch: int, lag: int = 0) -> Iterator[Event]:
    """No lock: a stage updates at once, under what its own interface answers.

        stage 0   F U . L
        stage 1   . F U . L
        stage 2   . . F U

    The lag is 0; with 1 each L is of the batch before.
    """
    for k in range(stages):
        yield Event(Operation.FORWARD, k, batch)
        yield Event(Operation.UPDATE, k, batch)
    yield from _learn(stages, batch - lag)


def delayed(stages: int, batch: int, delay: int) -> Iterator[Event]:
    """No lock, and true gradients: at each boundary that one passes it is `delay` batches older.

        stage 0   F0      F1      F2      F3      F4 U0   F5 U1   F6 U2
        stage 1   F0      F1      F2 U0   F3 U1   F4 U2   F5 U3   F6 U4      a column a batch; delay 2, without the L
        stage 2   F0 U0   F1 U1   F2 U2   F3 U3   F4 U4   F5 U5   F6 U6

    Stage k of K updates on batch n − delay (K − 1 − k), once there is one. From a forward pass to the next one that its
    gradient is needed for, a message travels down, two stages work, a message travels up: F + (F + U) + U of delay + 1
    batches. With delay 2 that leaves a whole batch's work for the links, and no process waits; with delay 1 nothing, so
    that every batch waits for one message; delay 0 is the lock.
    """
    late = [batch - delay * (stages - 1 - k) for k in range(stages)]
    yield from (Event(Operation.FORWARD, k, batch) for k in range(stages))
    yield from (Event(Operation.UPDATE, k, n) for k, n in reversed([*enumerate(late)]) if n >= 0)
    yield from (Event(Operation.LEARN, k, n) for k, n in enumerate(late[:-1]) if n >= 0)


def waits(events: Sequence[Event]) -> bool:
    """Whether a stage, or its interface, has to wait for the update of the stage behind on the same batch."""
    updates = [(event.stage, event.batch) for event in events if event.operation is Operation.UPDATE]
    learns = [(event.stage + 1, event.batch) for event in events if event.operation is Operation.LEARN]
    return any(later == (k - 1, n) for (k, n), later in pairwise(updates)) or not set(learns).isdisjoint(updates)


def _learn(stages: int, batch: int) -> Iterator[Event]:
    """The last stage has the loss itself, so it has nothing to learn."""
    if batch >= 0:
        for k in range(stages - 1):
            yield Event(Operation.LEARN, k, batch)
