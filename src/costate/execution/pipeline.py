"""Which rank holds what: R replicas of a pipeline of K stages.

Rank i K + j holds stage K − 1 − j of replica i, so that rank 0, which has the screen and the log, has the loss:

    K = 2, R = 2      stage 0   stage 1
    replica 0         rank 1    rank 0
    replica 1         rank 3    rank 2

One stage a process, and no process waits for a gradient; `Grid` says which rank holds which stage.

    rank 1, stage 0   F0 U0    F1 U1 L0   F2 U2 L1   ...        with lag 1
                        \\h0  /g0  \\h1  /g1
    rank 0, stage 1      F0 U0      F1 U1      F2 U2     ...

Every rank of a replica sees the same batches in the same order, so labels do not travel. A stage learns from the
gradient of batch n − lag after it has updated on batch n: so it is never more than lag batches ahead of the stage
behind it. With true gradients that arrive late, a stage updates on an earlier batch than the one that it sends on:

    rank 1, stage 0   F0   F1   F2 U0   F3 U1   ...         with delay 2
    rank 0, stage 1      F0 U0   F1 U1   F2 U2   ...
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from costate.config.settings import Count, Size
from costate.core.schedules import Operation
from costate.core.stage import Stage
from costate.core.types import Input, Labels, State
from costate.execution.base import Execution
from costate.execution.clock import SPANS, Clock, Traffic
from costate.execution.messages import Inbox, Outbox
from costate.execution.replicas import (
    any_rank,
    average_gradients,
    from_all,
    join_batch_norms,
    joint,
    part,
    share_module,
    share_optimizer,
)
from costate.interfaces import CopiedBlocks
from costate.methods import Method
from costate.posts import Letter, Precision, Reply


class Grid:
    """This rank's place, and the ranks that it works with.

    Args:
        replicas: R.
        stages: K.
        device: type of the devices that hold the stages, "cpu" or "cuda".

    Attributes:
        replica, stage: of this rank.
        pipeline: group of the ranks that hold the stages of this replica.
        peers: group of the ranks that hold this stage.

    Raises:
        ValueError: there are not R K ranks.
    """

    def __init__(self, replicas: int, stages: int, device: str):
        ranks = dist.get_world_size()
        if ranks != replicas * stages:
            wanted = f"stages={stages}" + (f" × execution.replicas={replicas}" if replicas > 1 else "")
            raise ValueError(f"execution=pipeline runs one stage a process: {wanted}, but {ranks} ranks were started.")
        mesh = init_device_mesh(device, (replicas, stages), mesh_dim_names=("replica", "stage"))
        self.stages = stages
        self.replica, place = divmod(dist.get_rank(), stages)
        self.stage = stages - 1 - place
        self.pipeline, self.peers = mesh.get_group("stage"), mesh.get_group("replica")

    def rank_of(self, stage: int) -> int:
        """The rank that holds a stage of this replica."""
        return self.replica * self.stages + self.stages - 1 - stage


@final
class Pipeline(Execution):
    """Plays one stage's share of a schedule; messages travel with isend and irecv (gloo on CPUs, nccl on GPUs).

    Args:
        lag: how many batches late the interfaces learn; 0 waits for the gradient of the batch itself.
        window: messages of a kind under way at once; bounds memory where no gradient holds a stage back.
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
        self.traffic = Traffic(self.clock)
        self.own = -1
        self._ending = False
        self._ahead = 0
        """Rows that the next states have been made room for, by us or behind us."""
        self._awaited: deque[tuple[int, Tensor]] = deque()

    def connect(self) -> None:
        """Takes this rank's place; every rank calls it, once torch.distributed is there.

        Raises:
            ValueError: there are not as many ranks as stages and replicas ask for.
        """
        device = next(p for stage in self.stages for p in stage.parameters()).device.type
        self.grid = grid = Grid(self.replicas, len(self.stages), device)
        self.own = grid.stage
        if self.replicas > 1:
            join_batch_norms(self.stages[self.own], grid.peers)
        # A group for each direction: nccl plays the messages of a group strictly in order, and two directions would
        # wait for each other.
        down, up = dist.new_group(), dist.new_group()
        before, behind = dist.get_rank() + 1, dist.get_rank() - 1
        self._states_in, self._states_out = Inbox(before, down), Outbox(behind, down, self.window)
        self._replies_in, self._replies_out = Inbox(behind, up), Outbox(before, up, self.window)
        self._copies_in: dict[int, tuple[Inbox, CopiedBlocks, int]] = {}
        self._copies_out: list[Outbox] = []
        if self.method.copies is not None:
            # Straight to where they are wanted, which is as many bytes as from stage to stage.
            group, held = dist.new_group(), list(self.holders())
            own = [(j, copies, i) for k, j, copies, i in held if k == self.own]
            self._copies_in = {j: (Inbox(grid.rank_of(j), group), copies, i) for j, copies, i in own}
            self._copies_out = [Outbox(grid.rank_of(k), group, self.window) for k, j, _, _ in held if j == self.own]
        # A checkpoint holds what is pending on all ranks.
        self.copied = {j: numbers for j, numbers in self.copied.items() if j in self._copies_in}
        self.replies = {(k, n): reply for (k, n), reply in self.replies.items() if k == self.own}
        for k, stage in enumerate(self.stages):
            if k != self.own:
                stage.flights, stage.lessons = {}, {}

    @property
    def share(self) -> tuple[int, int]:
        return dist.get_rank() // len(self.stages), self.replicas

    def step(self, n: int, x: Input, y: Labels, more: bool) -> State | None:
        self.begin(n)
        events = list(self.schedule(n))
        behind = [batch for operation, k, batch in events if operation is Operation.UPDATE and k == self.own + 1]
        updated: set[tuple[int, int]] = set()
        output = None
        self.traffic.begin()
        for event in events:
            operation, k, batch = event
            if operation is Operation.UPDATE:
                updated.add((k, batch))
            if k != self.own:
                continue
            if operation is Operation.FORWARD:
                output = self._forward(batch, x, y, more)
                self._expect(behind, output)
            elif operation is Operation.UPDATE and batch in self.stages[k].flights:
                # Where the schedule updates the stage behind us first, it means us to wait for that stage's gradient.
                self._update(batch, waits=batch < n or (k + 1, batch) in updated)
                self.note(event, n)
            elif operation is Operation.LEARN and self._answered(batch):
                self._learn(batch)
                self.note(event, n)
        stage = self.stages[self.own]
        self.traffic.end(queue=len(stage.flights) + len(stage.lessons), more=more)
        return output if self.own == len(self.stages) - 1 else None

    def average(self) -> None:
        if self.replicas > 1:
            with self.clock.span("average", -1):
                average_gradients(self.stages[self.own].parameters(), self.grid.peers)

    @property
    def sent(self) -> int:
        """Bytes that this rank has sent to others."""
        return self._states_out.sent + self._replies_out.sent + sum(box.sent for box in self._copies_out)

    def trains(self, k: int) -> bool:
        return k == self.own

    def send_copies(self) -> None:
        own = self.copied.pop(self.own, None)
        for box in self._copies_out:
            assert own is not None, "somebody holds its copy"
            box.send((own,), self.asked)
        # Where no states travel, who asks for an end says so with a copy, and all end when copies are taken.
        self._ending = self.asked
        for inbox, copies, i in self._copies_in.values():
            inbox.expect((copies.room(i),))

    def receive_copies(self) -> None:
        for j, (inbox, _, _) in self._copies_in.items():
            if inbox:
                with self.clock.span("wait for copy", self._batch):
                    (self.copied[j],), asked = inbox.take()
                self._ending = self._ending or asked

    def drain(self) -> None:
        """Takes in the gradients that are still on their way, and waits until the others have what was sent."""
        if self._awaited:
            self._reply(self._awaited[-1][0])
        self.receive_copies()
        for box in (self._states_out, self._replies_out, *self._copies_out):
            box.flush()

    def gather(self) -> None:
        """Gives every rank the tensors of every stage."""
        self.drain()
        for k, stage in enumerate(self.stages):
            share_module(stage, self.grid.rank_of(k), self.grid.pipeline)

    def collect(self, rows: list[Any]) -> list[Any]:
        """From the stages of this rank's replica, its own first."""
        return [row for part in from_all(rows, self.grid.pipeline) for row in part]

    def gather_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Gives every rank the optimizer's state of every stage."""
        parts = [(stage, self.grid.rank_of(k)) for k, stage in enumerate(self.stages)]
        share_optimizer(parts, optimizer, self.grid.pipeline)

    def measure(self) -> dict[str, float]:
        traffic = {f"stage/{self.own}/{name}": value for name, value in self.traffic.measure().items()}
        return traffic | super().measure()

    def timeline(self) -> list[Any]:
        return from_all((f"rank {dist.get_rank()}, stage {self.own}", list(self.clock.spans)))

    def state_dict(self) -> dict[str, Any]:
        """Each stage's as its own rank has it, so that it loads in one process as well."""
        state = joint(super().state_dict(), self.grid.peers)
        own = from_all(state, self.grid.pipeline)[::-1]
        lists = {name: [part[name][k] for k, part in enumerate(own)] for name in ("flights", "lessons")}
        shared = ("gradients", "states", "copies")
        return lists | {name: {k: v for part in own for k, v in part[name].items()} for name in shared}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        replica, replicas = self.share
        super().load_state_dict(part(state, replica, replicas), device)

    def _forward(self, n: int, x: Tensor, y: Tensor, more: bool) -> Tensor:
        first, last = self.own == 0, self.own == len(self.stages) - 1
        stage = self.stages[self.own]
        travels = self.stages[-1].front is None
        # Room was made before anybody knew of this batch: a smaller one travels with rows that nobody reads.
        rows = self._ahead or len(x)
        if len(x) > rows:
            raise ValueError(f"Batch {n} has {len(x)} rows, the one before {rows}: batches of an epoch do not grow.")
        if not travels:
            self.stopping = self._ending and self.method.copies is not None and self.method.copies.taken(n)
            with self.clock.span("forward", n):
                x = x if first else stage.guess(x)
        elif first:
            # The mark travels with the states.
            self.stopping = any_rank(self.asked, x.device, self.grid.peers)
        else:
            if not self._states_in:
                self._states_in.expect(self._packed_room(x, rows))
            with self.clock.span("wait for state", n):
                parts, self.stopping = self._states_in.take()
            x = self.coding.unpack(parts, x.new_empty(rows, *stage.inlet))[: len(y)]
            if more and not self.stopping:
                self._states_in.expect(self._packed_room(x, len(x)))
        self._ahead = len(x) if travels and more and not self.stopping else 0
        with self.clock.span("forward", n):
            h = stage.send(n, x, y, first)
        if travels and not last:
            with self.clock.span("wait for room", n):
                self._states_out.room()
            with self.clock.span("send state", n):
                whole = h if len(h) == rows else torch.cat([h, h.new_zeros(rows - len(h), *h.shape[1:])])
                self._states_out.send(self.coding.pack(whole), self.stopping)
        return h

    def _packed_room(self, like: Tensor, rows: int) -> Letter:
        return self.coding.pack(like.new_empty(rows, *self.stages[self.own].inlet))

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
            passage = self.stages[self.own].update(n, reply, self.exact is not None, self.tuning(n))
        post = self.post
        if passage is not None and post is not None:
            with self.clock.span("wait for room", n):
                self._replies_out.room()
            with self.clock.span("send gradient", n):
                self._replies_out.send(post.write(passage))

    def _learn(self, n: int) -> None:
        reply = self._reply(n)
        with self.clock.span("learn", n):
            self.stages[self.own].learn(n, reply.g)
        del self.replies[self.own, n]

    def _answered(self, n: int) -> bool:
        return (self.own, n) in self.replies or any(n == awaited for awaited, _ in self._awaited)

    def _reply(self, n: int) -> Reply:
        """What came back for batch n; what came back for earlier batches, if anything, comes before it and is kept."""
        while (self.own, n) not in self.replies:
            with self.clock.span("wait for gradient", n):
                letter, _ = self._replies_in.take()
            (batch, like), post = self._awaited.popleft(), self.post
            assert post is not None, "a letter has come"
            self.replies[self.own, batch] = post.read(letter, like)
        return self.replies[self.own, n]
