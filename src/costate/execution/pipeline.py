"""One stage a process, and no process waits for a gradient: R replicas of a pipeline of K stages.

    rank 1, stage 0   F0 U0    F1 U1 L0   F2 U2 L1   ...        with lag 1
                        \\h0  /g0  \\h1  /g1
    rank 0, stage 1      F0 U0      F1 U1      F2 U2     ...

Every rank of a replica sees the same batches in the same order, so labels do not travel. A stage learns from the
gradient of batch n − lag after it has updated on batch n: so it is never more than lag batches ahead of the stage
behind it. With true gradients that arrive late, a stage updates on an earlier batch than the one that it sends on:

    rank 1, stage 0   F0   F1   F2 U0   F3 U1   ...         with delay 2
    rank 0, stage 1      F0 U0   F1 U1   F2 U2   ...

Rank i K + j holds stage K − 1 − j of replica i, so that rank 0, which has the screen and the log, has the loss.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from costate.config.settings import Count, Size
from costate.core.copies import CopiedBlocks, Kind
from costate.core.method import Method
from costate.core.post import Reply
from costate.core.schedules import Operation
from costate.core.stage import Stage
from costate.core.types import Input, Labels, State
from costate.execution.base import Execution
from costate.execution.clock import SPANS, Clock
from costate.execution.messages import Inbox, Outbox, Rooms
from costate.execution.replicas import (
    any_rank,
    average_gradients,
    from_all,
    join_batch_norms,
    joint_rows,
    share_module,
    share_optimizer,
    with_rows,
)
from costate.methods.compression import Precision


@final
class Pipeline(Execution):
    """Plays one stage's share of a schedule; messages travel with isend and irecv (gloo on CPUs, nccl on GPUs).

    Args:
        lag: how many batches late the interfaces learn; 0 waits for the gradient of the batch itself.
        window: messages of a kind under way at once, and states that there is room for; that bounds memory.
        replicas: pipelines that share each batch out; every stage's gradients are averaged over them.
        wire: in which precision states and letters travel; one process does the same where it is set so, too.
        trace: whether to remember what was done when, for a timeline.

    Raises:
        ValueError: there is one stage alone.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        method: Method,
        *,
        lag: Size,
        window: Count,
        replicas: Count,
        trace: bool,
        wire: Precision = "full",
    ):
        super().__init__(stages, method, lag, wire)
        if len(stages) < 2:
            raise ValueError("execution=pipeline puts each stage on a process of its own: choose stages=2 or more.")
        self.window, self.replicas, self.alike = window, replicas, replicas == 1
        self.clock = Clock(SPANS if trace else 0)
        self.own, self._ending = -1, False
        self._awaited: deque[tuple[int, Tensor]] = deque()

    def connect(self) -> None:
        """Takes this rank's place; every rank calls it, once torch.distributed is there.

        Raises:
            ValueError: there are not as many ranks as stages and replicas ask for.
        """
        ranks, places = dist.get_world_size(), (self.replicas, len(self.stages))
        if ranks != self.replicas * len(self.stages):
            wanted = f"stages={len(self.stages)}" + f" × execution.replicas={self.replicas}" * (self.replicas > 1)
            raise ValueError(f"execution=pipeline runs one stage a process: {wanted}, but {ranks} ranks were started.")
        device = next(p for stage in self.stages for p in stage.parameters()).device.type
        mesh = init_device_mesh(device, places, mesh_dim_names=("replica", "stage"))
        # The ranks of this replica, and those of this stage.
        self.whole, self.peers = mesh.get_group("stage"), mesh.get_group("replica")
        self.own = len(self.stages) - 1 - dist.get_rank() % len(self.stages)
        if self.replicas > 1:
            # Those of others, too: a copy of the whole network is to be that of the joint batch.
            for stage in self.stages:
                join_batch_norms(stage, self.peers)
        # A group for each direction: nccl plays the messages of a group strictly in order, and two directions would
        # wait for each other.
        down, up = dist.new_group(), dist.new_group()
        before, behind = dist.get_rank() + 1, dist.get_rank() - 1
        self._rooms = Rooms(self.window)
        self._states_in, self._states_out = Inbox(before, down), Outbox(behind, down, self.window)
        self._replies_in, self._replies_out = Inbox(behind, up), Outbox(before, up, self.window)
        self._copies_in: dict[Kind, tuple[Inbox, CopiedBlocks, int]] = {}
        self._copies_out: list[tuple[Outbox, Kind]] = []
        if self.method.copies is not None:
            # Straight to where they are wanted, which is as many bytes as from stage to stage.
            group = dist.new_group()
            for k, kind, copies, i in self.holders():
                if k == self.own:
                    self._copies_in[kind] = Inbox(self.rank_of(kind[0]), group), copies, i
                if kind[0] == self.own:
                    self._copies_out.append((Outbox(self.rank_of(k), group, self.window), kind))
        # A checkpoint holds what is pending on all ranks.
        self.copied = {kind: copy for kind, copy in self.copied.items() if kind in self._copies_in}
        self.replies = {(k, n): reply for (k, n), reply in self.replies.items() if k == self.own}
        for k, stage in enumerate(self.stages):
            if k != self.own:
                stage.flights, stage.lessons = {}, {}

    @property
    def share(self) -> tuple[int, int]:
        return dist.get_rank() // len(self.stages), self.replicas

    def rank_of(self, stage: int) -> int:
        """The rank that holds a stage of this replica."""
        return (self.share[0] + 1) * len(self.stages) - 1 - stage

    def step(self, n: int, x: Input, y: Labels, ahead: int) -> State | None:
        self.begin(n)
        events = list(self.schedule(n))
        behind = [batch for operation, k, batch in events if operation is Operation.UPDATE and k == self.own + 1]
        updated: set[tuple[int, int]] = set()
        output = None
        self.clock.begin()
        for event in events:
            operation, k, batch = event
            if operation is Operation.UPDATE:
                updated.add((k, batch))
            if k != self.own:
                continue
            if operation is Operation.FORWARD:
                output = self._forward(batch, x, y, ahead)
                self._expect(behind, output)
            elif operation is Operation.UPDATE and batch in self.stages[k].flights:
                # Where the schedule updates the stage behind us first, it means us to wait for that stage's gradient.
                self._update(batch, waits=batch < n or (k + 1, batch) in updated)
                self.note(event, n)
            elif operation is Operation.LEARN and ((k, batch) in self.replies or batch in dict(self._awaited)):
                reply = self._reply(batch)
                with self.clock.span("learn", batch):
                    self.stages[k].learn(batch, reply.g)
                del self.replies[k, batch]
                self.note(event, n)
        stage = self.stages[self.own]
        self.clock.end(queue=len(stage.flights) + len(stage.lessons), more=ahead > 0)
        return output if self.own == len(self.stages) - 1 else None

    def _forward(self, n: int, x: Tensor, y: Tensor, ahead: int) -> Tensor:
        stage, travels = self.stages[self.own], self.stages[-1].front is None
        rows, asked = self._rooms.take(n, len(x)), False
        if not travels:
            # Copies may be rare, and behind an epoch all wait for each other anyway.
            due = self._ending and self.copies is not None and self.copies.taken(n)
            self.stopping = due or (not ahead and any_rank(self._ending or self.asked, x.device))
        elif self.own == 0:
            # The mark travels with the states.
            asked = any_rank(self.asked, x.device, self.peers)
        else:
            x, asked = self._state(n, x, rows)
        if travels:
            for _ in range(self._rooms.make(n, len(x), ahead, asked)):
                if self.own > 0:
                    self._states_in.expect(self.coding.pack(x))
            self.stopping = self._rooms.stopping
        with self.clock.span("forward", n):
            x = x if travels or self.own == 0 else stage.guess(x)
            h = stage.send(n, x, y, first=self.own == 0)
        if travels and self.own < len(self.stages) - 1:
            with self.clock.span("wait for room", n):
                self._states_out.room()
            with self.clock.span("send state", n):
                whole = h if len(h) == rows else torch.cat([h, h.new_zeros(rows - len(h), *h.shape[1:])])
                self._states_out.send(self.coding.pack(whole), asked)
        return h

    def _state(self, n: int, x: Tensor, rows: int) -> tuple[Tensor, bool]:
        """What the stage in front has made of the samples, which has come with so many rows, and its mark."""
        state = x.new_empty(rows, *self.stages[self.own].inlet)
        if not self._states_in:
            self._states_in.expect(self.coding.pack(state))
        with self.clock.span("wait for state", n):
            parts, asked = self._states_in.take()
        return self.coding.unpack(parts, state)[: len(x)], asked

    def _expect(self, batches: list[int], h: Tensor) -> None:
        """Makes room for the gradients that the stage behind us sends while it plays this step, and for no others: what
        is not on its way when training pauses cannot be waited for.
        """
        stage, post = self.stages[self.own], self.post
        for n in batches:
            if post is not None and n in stage.flights:
                like = h.new_empty(len(stage.flights[n].y), *h.shape[1:])
                self._replies_in.expect(post.room(like))
                self._awaited.append((n, like))

    def _update(self, n: int, waits: bool) -> None:
        reply = self._reply(n) if waits else None
        with self.clock.span("update", n):
            passage = self.stages[self.own].update(n, reply, self.exact is not None, self.tuning(n, self.own))
        post = self.post
        if passage is not None and post is not None:
            with self.clock.span("wait for room", n):
                self._replies_out.room()
            with self.clock.span("send gradient", n):
                self._replies_out.send(post.write(passage))

    def _reply(self, n: int) -> Reply:
        """What came back for batch n; what came back for earlier batches, if anything, comes before it and is kept."""
        while (self.own, n) not in self.replies:
            with self.clock.span("wait for gradient", n):
                letter, _ = self._replies_in.take()
            (batch, like), post = self._awaited.popleft(), self.post
            assert post is not None, "a letter has come"
            self.replies[self.own, batch] = post.read(letter, like)
        return self.replies[self.own, n]

    def average(self) -> None:
        if self.replicas > 1:
            with self.clock.span("average", -1):
                average_gradients(self.stages[self.own].parameters(), self.peers)

    @property
    def sent(self) -> int:
        """Bytes that this rank has sent to others."""
        return self._states_out.sent + self._replies_out.sent + sum(box.sent for box, _ in self._copies_out)

    def trains(self, k: int) -> bool:
        return k == self.own

    def send_copies(self) -> None:
        for box, kind in self._copies_out:
            box.send((self.copied[kind],), self.asked)
        self.copied = {}
        # Where no states travel, who asks for an end says so with a copy, and all end when copies are taken.
        self._ending = self.asked
        for inbox, copies, i in self._copies_in.values():
            inbox.expect((copies.room(i),))

    def receive_copies(self) -> None:
        for kind, (inbox, _, _) in self._copies_in.items():
            if inbox:
                with self.clock.span("wait for copy", self._batch):
                    (self.copied[kind],), asked = inbox.take()
                self._ending = self._ending or asked

    def drain(self) -> None:
        """Takes in the gradients that are still on their way, and waits until the others have what was sent."""
        if self._awaited:
            self._reply(self._awaited[-1][0])
        self.receive_copies()
        for box in (self._states_out, self._replies_out, *(box for box, _ in self._copies_out)):
            box.flush()

    def gather(self) -> None:
        self.drain()
        for k, stage in enumerate(self.stages):
            share_module(stage, self.rank_of(k), self.whole)

    def collect(self, rows: list[Any]) -> list[Any]:
        """From the stages of this rank's replica, rank by rank: first those of rank 0, which alone has loggers."""
        return [row for part in from_all(rows, self.whole) for row in part]

    def gather_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        share_optimizer([(stage, self.rank_of(k)) for k, stage in enumerate(self.stages)], optimizer, self.whole)

    def measure(self) -> dict[str, float]:
        own = {f"stage/{self.own}/{name}": value for name, value in self.clock.measure().items()}
        return own | super().measure()

    def timeline(self) -> list[Any]:
        return from_all((f"rank {dist.get_rank()}, stage {self.own}", list(self.clock.spans)))

    def state_dict(self) -> dict[str, Any]:
        """Each stage's as its own rank has it, so that it loads in one process as well."""
        state = with_rows(super().state_dict(), partial(joint_rows, group=self.peers))
        own = from_all(state, self.whole)[::-1]
        lists = {name: [part[name][k] for k, part in enumerate(own)] for name in ("flights", "lessons")}
        shared = ("gradients", "states", "copies")
        return lists | {name: {k: v for part in own for k, v in part[name].items()} for name in shared}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        replica, replicas = self.share
        super().load_state_dict(with_rows(state, lambda rows: rows[replica::replicas]), device)
