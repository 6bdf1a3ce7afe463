"""Who plays which role, and the ways from one role to another.

Rank r holds stage K − 1 − r, so that rank 0, which has the screen and the log, has the loss. A dedicated oracle is one
rank more, K; a colocated one lives in parts, the synthesizer of each boundary with the stage behind it.

    K = 2        input half   output half   oracle
    dedicated    rank 1       rank 0        rank 2
    colocated    rank 1       rank 0        rank 0

A line: a message is played by a thread of the rank that it comes to, and answered if asked.

    source   number, tensors  →  target   play(number, *tensors)
             number, tensors  ←           what it returns
"""

import atexit
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from costate.core.stage import Stage
from costate.execution.messages import Receiver, Sender

FOR_EVER = timedelta(days=7)
"""A rank that has died is noticed at once, and one that is slow may be so."""

LOCAL = ("127.0.0.1", "localhost", "::1")

Answer = tuple[Any, ...]
"""A number, and tensors."""
Play = Callable[..., Answer | None]
Wait = Callable[[Callable[[], bool]], None]
"""Waits for something that may happen."""


@final
@dataclass(frozen=True)
class Roles:
    """Places of K stages and an oracle."""

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

    def owners(self, stages: Sequence[Stage]) -> Iterator[tuple[nn.Module, int]]:
        """Each part of the network, and the rank that trains it: a stage's interface is trained by its oracle."""
        for k, stage in enumerate(stages):
            yield stage.block, self.rank_of(k)
            if k < self.stages - 1:
                yield stage.interface, self.oracle_of(k)


@final
class Lines:
    """All lines of a run; every rank opens the same ones in the same order.

    The bell rings whenever a message has been played. `failure` is what a thread has ended with.
    """

    def __init__(self, bell: threading.Condition):
        self.bell = bell
        self.failure: Exception | None = None
        self._group = dist.new_group(backend="gloo", timeout=FOR_EVER)
        self._all: list[Line] = []
        atexit.register(self._abort)

    def open(self, source: int, target: int, play: Play, then: Play | None = None, counted: bool = True) -> "Line":
        """From rank to rank.

        Args:
            then: played, too, when the answer is on its way.
            counted: whether its messages are among those that are counted, and waited for by `flush`.
        """
        self._all.append(Line(self, source, target, play, then, counted))
        if source != target and dist.get_rank() in (source, target):
            self._all[-1].connect(self._group, tag=len(self._all))
        return self._all[-1]

    @property
    def counts(self) -> tuple[int, int]:
        """Messages that this rank has sent to others, without answers, and those from others that it has played."""
        counted = [line for line in self._all if line.counted]
        return sum(line.sent for line in counted), sum(line.received for line in counted)

    def flush(self, wait: Wait) -> None:
        """Waits until all that any rank has sent has been played; all ranks call it."""
        sent = torch.tensor([line.sent for line in self._all])
        dist.all_reduce(sent, group=self._group)
        due = [(line, n) for line, n in zip(self._all, sent.tolist(), strict=True) if line.thread and line.counted]
        wait(lambda: all(line.received == number for line, number in due))
        dist.barrier(group=self._group)

    def close(self) -> None:
        """All ranks call it, behind `flush`."""
        atexit.unregister(self._abort)
        for line in self._all:
            # The source hangs up, the target waits for it.
            if line.thread:
                line.thread.join()
            elif line.source == dist.get_rank() != line.target:
                line.out.end()
                line.out.flush()

    def _abort(self) -> None:
        """Where a run fails: a thread that a message wakes while the interpreter ends would end it by SIGABRT."""
        with contextlib.suppress(RuntimeError, ValueError):
            other, unused = (dist.get_rank() + 1) % dist.get_world_size(), len(self._all) + 1
            # A wait that runs out of time closes the connections of its group, and all other waits with them.
            dist.irecv(torch.empty(1), other, group=self._group, tag=unused).wait(timedelta(milliseconds=1))  # type: ignore[union-attr]
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

    def __init__(self, lines: Lines, source: int, target: int, play: Play, then: Play | None, counted: bool):
        self.lines, self.source, self.target = lines, source, target
        self.play, self.then, self.counted = play, then, counted
        self.sent = self.received = 0
        self.thread: threading.Thread | None = None

    def connect(self, group: dist.ProcessGroup | None, tag: int) -> None:
        """Takes this rank's end."""
        receives = dist.get_rank() == self.target
        peer = self.source if receives else self.target
        self.out, self._in = Sender(peer, group, tag), Receiver(peer, group, tag)
        if receives:
            # A daemon: a run that fails does not wait for what will not come.
            self.thread = threading.Thread(target=self._serve, daemon=True)
            self.thread.start()

    def send(self, number: int, *tensors: Tensor) -> Answer | None:
        """Hands a message on, and waits for nothing but room on the wire; within one rank there is an answer."""
        if self.source == self.target:
            return self.play(number, *(tensor.detach().cpu() for tensor in tensors))
        self.out.send(number, tensors)
        self.sent += 1
        return None

    def ask(self, number: int, *tensors: Tensor) -> Answer:
        """Hands a message on, and waits for the answer.

        Raises:
            RuntimeError: there is none, as the other rank has failed.
        """
        answer = self.send(number, *tensors)
        if answer is not None:
            return answer
        told = self._in.take()
        if told is None:
            # It says why, and first.
            time.sleep(1)
            raise RuntimeError(f"Rank {self.target} was asked for a gradient and has failed.")
        return told[0], *told[1]

    def _serve(self) -> None:
        try:
            while message := self._in.take():
                number, tensors = message
                answer = self.play(number, *tensors)
                if answer is not None:
                    self.out.send(answer[0], answer[1:])
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
                self.out.end()


@final
class Halt:
    """One role's part in agreeing on an update behind which all of them stop, though they are at different ones.

    Whoever is asked to stop tells one rank; it holds all roles where they are, takes the furthest one's next update,
    and lets them go on to that one. Held roles answer and receive as ever, so nobody waits for ever.

    Attributes:
        next: the role's next update.
        end: the last update, if one has been agreed on.
    """

    def __init__(self, lines: Lines, ranks: int, first: int):
        self.bell = lines.bell
        self.next = 0
        self.end: int | None = None
        self._held = self._told = self._arranged = False
        # Those that ask are closed first: then nobody arranges anything on lines that are closed.
        asking = [lines.open(rank, first, self._arrange, counted=False) for rank in range(ranks)]
        self._orders = [lines.open(first, rank, self._obey, counted=False) for rank in range(ranks)]
        self._ask = asking[dist.get_rank()]

    def begin(self, n: int, asked: bool, wait: Wait) -> bool:
        """Update n is about to begin, on a process asked to stop or not; returns whether it is the last one."""
        if asked and not self._told:
            self._told = True
            self._ask.send(n)
        with self.bell:
            self.next = n
            wait(lambda: not self._held)
            self.next = n + 1
        return n == self.end

    def _arrange(self, number: int) -> None:
        with self.bell:
            if self._arranged:
                return
            self._arranged = True
        end = max(order.ask(-1)[0] for order in self._orders)
        for order in self._orders:
            order.ask(end)

    def _obey(self, end: int) -> Answer:
        """Keeps the role from its next update, and says which one that is; or lets it go on to the last one."""
        with self.bell:
            self._held = end < 0
            if end >= 0:
                self.end = end
                self.bell.notify_all()
            return (self.next,)


def choose(interface: str | None, environment: Mapping[str, str]) -> str:
    """The network interface to listen on: the one that is named, else loopback.

    Raises:
        ValueError: none is named, and some ranks are on other hosts.
    """
    named = interface or environment.get("GLOO_SOCKET_IFNAME")
    if named:
        return named
    ranks = environment.get("WORLD_SIZE")
    here = environment.get("LOCAL_WORLD_SIZE", ranks if environment.get("MASTER_ADDR") in LOCAL else None)
    if here != ranks:
        raise ValueError(
            "execution=asynchronous listens on loopback alone, and its ranks are on several hosts: name the network "
            "interface that they share, execution.interface=eth0."
        )
    return next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "lo")
