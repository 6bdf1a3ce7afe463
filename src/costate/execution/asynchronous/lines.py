"""Ways from one role to another: a message is played by a thread of the rank that it comes to, and answered if asked.

    source   number, tensors  →  target   play(number, *tensors)
             number, tensor   ←           what it returns

Each is a line of messages of torch.distributed, not a remote procedure call: that goes through six threads, and takes
three times as long.

Which rank plays which role: K stages, and the oracle that holds the synthesizers of the boundaries between them.

Rank r holds stage K − 1 − r, so that rank 0, which has the screen and the log, has the loss. A dedicated oracle is one
rank more, K; a colocated one lives in parts, the synthesizer of each boundary with the stage behind it.

    K = 2        input half   output half   oracle
    dedicated    rank 1       rank 0        rank 2
    colocated    rank 1       rank 0        rank 0

How roles that are at different updates agree on one behind which all of them stop.

Whoever is asked to stop tells one rank; it holds all roles where they are, takes the furthest one's next update, and
lets them go on to that one. Held roles answer and receive as ever, so nobody waits for ever.
"""

import atexit
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from costate.core.stage import Stage
from costate.execution.messages import Receiver, Sender
from costate.execution.replicas import share_module

FOR_EVER = timedelta(days=7)
"""A rank that has died is noticed at once, and one that is slow may be so."""

AT_ONCE = timedelta(milliseconds=1)

Play = Callable[..., tuple[int, Tensor] | None]


@final
class Lines:
    """All lines of a run; every rank opens the same ones in the same order.

    Args:
        bell: rung whenever a message has been played.

    Attributes:
        failure: what a thread has ended with.
    """

    def __init__(self, bell: threading.Condition):
        self.bell = bell
        self.failure: Exception | None = None
        self._group = dist.new_group(backend="gloo", timeout=FOR_EVER)
        self._all: list[Line] = []
        atexit.register(self._abort)

    def open(self, source: int, target: int, play: Play, then: Play | None = None) -> "Line":
        """From rank to rank; `then` is played, too, when the answer is on its way."""
        line = Line(self, source, target, play, then)
        if source != target and dist.get_rank() in (source, target):
            line.connect(self._group, tag=len(self._all))
        self._all.append(line)
        return line

    @property
    def sent(self) -> int:
        """Messages that this rank has sent to others; answers are not counted."""
        return sum(line.sent for line in self._all)

    @property
    def received(self) -> int:
        """Messages from others that this rank has played."""
        return sum(line.received for line in self._all)

    def flush(self, wait: Callable[[Callable[[], bool]], None]) -> None:
        """Waits until all that any rank has sent has been played; all ranks call it.

        Args:
            wait: for something that may happen.
        """
        sent = torch.tensor([line.sent for line in self._all])
        dist.all_reduce(sent, group=self._group)
        due = [(line, number) for line, number in zip(self._all, sent.tolist(), strict=True) if line.thread]
        wait(lambda: all(line.received == number for line, number in due))
        dist.barrier(group=self._group)

    def close(self) -> None:
        """All ranks call it, behind `flush`."""
        atexit.unregister(self._abort)
        for line in self._all:
            line.close()

    def _abort(self) -> None:
        """Where a run fails: a thread that a message wakes while the interpreter ends would end it by SIGABRT."""
        with contextlib.suppress(RuntimeError, ValueError):
            other = (dist.get_rank() + 1) % dist.get_world_size()
            # A wait that runs out of time closes the connections of its group, and all other waits with them.
            dist.irecv(torch.empty(1), other, group=self._group, tag=len(self._all)).wait(AT_ONCE)  # type: ignore[union-attr]
        deadline = time.monotonic() + 1
        for line in self._all:
            if line.thread:
                line.thread.join(timeout=max(0, deadline - time.monotonic()))


@final
class Line:
    """One way; see `Lines.open`. Within one rank a message is played at once.

    Attributes:
        sent, received: messages, on the source's rank and on the target's.
        thread: that takes messages off the wire, on the target's rank.
    """

    def __init__(self, lines: Lines, source: int, target: int, play: Play, then: Play | None):
        self.lines, self.source, self.target, self.play, self.then = lines, source, target, play, then
        self.sent = self.received = 0
        self.thread: threading.Thread | None = None

    def connect(self, group: dist.ProcessGroup | None, tag: int) -> None:
        """Takes this rank's end."""
        receives = dist.get_rank() == self.target
        peer = self.source if receives else self.target
        self._out, self._in = Sender(peer, group, tag), Receiver(peer, group, tag)
        if receives:
            # A daemon: a run that fails does not wait for what will not come.
            self.thread = threading.Thread(target=self._serve, daemon=True)
            self.thread.start()

    def send(self, number: int, *tensors: Tensor) -> None:
        """Hands a message on, and waits for nothing but room on the wire."""
        if self.source == self.target:
            self.play(number, *(tensor.detach().cpu() for tensor in tensors))
        else:
            self._out.send(number, tensors)
            self.sent += 1

    def ask(self, number: int, *tensors: Tensor) -> tuple[int, Tensor]:
        """Hands a message on, to another rank, and waits for the answer.

        Raises:
            RuntimeError: there is none, as the other rank has failed.
        """
        self.send(number, *tensors)
        answer = self._in.take()
        if answer is None:
            # It says why, and first.
            time.sleep(1)
            raise RuntimeError(f"Rank {self.target} was asked for a gradient and has failed.")
        staleness, (g,) = answer
        return staleness, g

    def close(self) -> None:
        """The source hangs up, the target waits for it."""
        if self.thread:
            self.thread.join()
        elif self.source == dist.get_rank() != self.target:
            self._out.end()
            self._out.flush()

    def _serve(self) -> None:
        try:
            while message := self._in.take():
                number, tensors = message
                answer = self.play(number, *tensors)
                if answer is not None:
                    self._out.send(answer[0], answer[1:])
                if self.then is not None:
                    self.then(number, *tensors)
                with self.lines.bell:
                    self.received += 1
                    self.lines.bell.notify_all()
        except Exception as error:
            with self.lines.bell:
                self.lines.failure = error
                self.lines.bell.notify_all()
            with contextlib.suppress(RuntimeError):
                self._out.end()


@final
@dataclass(frozen=True)
class Roles:
    """Places of K stages and an oracle.

    Attributes:
        stages: K.
    """

    stages: int
    oracle: Literal["dedicated", "colocated"]

    @property
    def ranks(self) -> int:
        return self.stages + (self.oracle == "dedicated")

    def stage_of(self, rank: int) -> int | None:
        """The stage that a rank holds; None for a dedicated oracle."""
        return self.stages - 1 - rank if rank < self.stages else None

    def rank_of(self, stage: int) -> int:
        return self.stages - 1 - stage

    def oracle_of(self, boundary: int) -> int:
        """The rank that holds the synthesizer behind a stage."""
        return self.stages if self.oracle == "dedicated" else self.rank_of(boundary + 1)

    def boundaries_of(self, rank: int) -> list[int]:
        """The boundaries whose synthesizers a rank holds."""
        return [k for k in range(self.stages - 1) if self.oracle_of(k) == rank]

    def name_of(self, rank: int) -> str:
        """As people read it."""
        k = self.stage_of(rank)
        return "oracle" if k is None else f"stage {k}"


@final
class Halt:
    """One role's part in it.

    Args:
        bell: rung when the role may go on.

    Attributes:
        end: the last update, if one has been agreed on.
    """

    def __init__(self, bell: threading.Condition):
        self.bell = bell
        self.next = 0
        self.end: int | None = None
        self.held = self.arranged = False

    def begin(self, n: int, wait: Callable[[Callable[[], bool]], None]) -> None:
        """Update n is about to begin.

        Args:
            wait: for something that may happen.
        """
        with self.bell:
            self.next = n
            wait(lambda: not self.held)
            self.next = n + 1

    def hold(self) -> int:
        """Keeps the role from its next update, and says which one that is."""
        with self.bell:
            self.held = True
            return self.next

    def release(self, end: int) -> None:
        """Lets it go on, to update `end`."""
        with self.bell:
            self.end, self.held = end, False
            self.bell.notify_all()


def owners(stages: Sequence[Stage], roles: Roles) -> Iterator[tuple[nn.Module, int]]:
    """Each part of the network, and the rank that trains it."""
    for k, stage in enumerate(stages):
        yield stage.block, roles.rank_of(k)
        if k < len(stages) - 1:
            yield stage.interface, roles.oracle_of(k)


def share_tensors(stages: Sequence[Stage], roles: Roles) -> None:
    """Parameters and buffers."""
    for part, rank in owners(stages, roles):
        share_module(part, rank)
