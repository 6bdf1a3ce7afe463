"""A recurrent network, unrolled over spans of steps: a span is to time what a stage is to depth.

The method's schedule, which is one of stages in a row, is played on the spans in their order, and in each on the stages
in theirs. Decoupled, a stage updates on a span at once; locked, updates go back all the way. Of two stages and spans:

    stage 1   . . F U . . F U          . F . F U . U .
    stage 0   F U . . F U . .          F . F . . U . U

A stage on a batch:

    x_k   what goes in at the steps of span k, cut from the graph of the stage below     (batch, steps, *)
    h_k   what comes out at them, for the stage above, or the network's output           (batch, steps, *)
    s_k   state in front of span k, cut from the graph of the span before                (batch, size)
    f_k   gradient at h_k, as the interface in depth answers it
    g_k   gradient at s_k of all that lies behind it, as the interface in time answers it
    ℓ_k   at the last stage the loss of the steps of span k, at others ⟨h_k, f_k⟩
    J_k   ∂s_{k+1}/∂s_k
    q_k   what comes out of span k at x_k, and the interface below learns: ∂ℓ_k/∂x_k + (∂s_{k+1}/∂x_k)ᵀ g_{k+1}
    r_k   what comes out of it at s_k: ∂ℓ_k/∂s_k + J_kᵀ g_{k+1}
    t_k   what the interface in time learns of s_k: r_k + λ J_kᵀ (t_{k+1} − g_{k+1})

    forward k   h_k, s_{k+1} = layers(x_k, s_k)
    update  k   the backward pass of span k under f_k and g_{k+1}
    learn       the interfaces learn all q_k and t_k of the batch

λ = 0 is DNI: targets see one span ahead (Jaderberg et al., 2017, section 3.1). λ > 0 mixes in what was found further
on, λ = 1 the true gradients of the batch's steps: the forward view of BP(λ) (Pemberton & Costa, 2024, 2401.07044).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from costate.architectures.recurrent import Layers, recurrence
from costate.config.settings import Count, Share
from costate.core.interface import EachSpan, Interface, Learning, Loss
from costate.core.method import Method
from costate.core.post import Passage, Post
from costate.core.schedules import Event, Operation
from costate.core.stage import Stage, leaf
from costate.core.tasks import AtEnd, SequenceTask
from costate.core.types import Input, Labels, State
from costate.execution.replicas import joint_rows, own_rows
from costate.execution.serial import Replicated
from costate.methods.coarse import CoarseSteps
from costate.methods.synthetic_gradients import Synthetic


class Sequences(NamedTuple):
    """A batch.

    Attributes:
        ends: the step behind each span.
        goes_on: whether the next batch begins with the state that this one ends with.
        asks: what of it is asked for at which step.
        post: by which gradients travel, in both directions.
        later: λ.
    """

    n: int
    y: Labels
    ends: list[int]
    goes_on: bool
    asks: SequenceTask
    post: Post | None
    later: float

    def steps(self, k: int) -> range:
        """Those of span k."""
        return range(self.ends[k - 1] if k > 0 else 0, self.ends[k])

    def told(self, k: int) -> Tensor:
        """What an interface in depth is told at each step of span k: what is asked for from there on."""
        return torch.stack([self.asks.coming(self.y, t) for t in self.steps(k)], dim=1)

    def brought(self, leaf: Tensor, out: Tensor) -> Tensor | None:
        """The gradient at a leaf, as the post brings it; None where nobody wants one, or where none has come yet."""
        if self.post is None or leaf.grad is None:
            return None
        return self.post.read(self.post.write(Passage(leaf.detach(), leaf.grad, out.detach(), self.y)), leaf).g


@dataclass
class Span:
    """What is remembered of a span until its batch is over.

    Attributes:
        x, s, h, end: x and s are leaves, h and the state behind the span have the graph in between.
        loss: of its steps; None where none of them counts, or another stage has it.
        g: the gradient at its end that it was updated under; None where none was.
    """

    x: Tensor
    s: Tensor
    h: Tensor
    end: Tensor
    loss: Tensor | None = None
    g: Tensor | None = None


@final
class Unrolling:
    """A stage on a batch.

    Args:
        s: the state in front of the batch; it wants a gradient if another batch has ended with it.
        x: what goes in at all steps of the batch, where that is known before.
    """

    def __init__(self, network: Layers, interface: Interface, s: Tensor, batch: Sequences, x: Tensor | None):
        assert isinstance(interface, EachSpan), "made so"
        self.network, self.interface, self.s, self.batch, self.x = network, interface, s, batch, x
        self.spans: list[Span] = []

    def forward(self, x: Tensor) -> None:
        """The next span."""
        s = self.spans[-1].end.detach().requires_grad_() if self.spans else self.s
        self.spans.append(Span(x, s, *self.network.unroll(x, s)))

    def update(self, k: int, arrived: Tensor | None) -> None:
        """The backward pass of span k; what has arrived is q_k of the stage above, where it has updated before."""
        span, roots = self.spans[k], list[tuple[Tensor, Tensor | None]]()
        asked = self._asked(k)
        if asked is not None:
            roots.append(self.interface.root(span.h, asked, arrived, self.batch.n))
        if isinstance(self.interface.behind, Loss) and roots:
            span.loss = roots[0][0].detach()
        span.g = self._answer(k)
        if span.g is not None:
            roots.append((span.end, span.g))
        if roots:
            ends, gradients = zip(*roots, strict=True)
            torch.autograd.backward(ends, gradients, retain_graph=self.batch.later > 0)

    def down(self, k: int) -> Tensor | None:
        """q_k, once it has updated."""
        return self.batch.brought(self.spans[k].x, self.spans[k].h) if k < len(self.spans) else None

    def back(self, k: int) -> Tensor | None:
        """r_k, likewise."""
        return self.batch.brought(self.spans[k].s, self.spans[k].end) if k < len(self.spans) else None

    def learn(self, above: "Unrolling | None") -> None:
        """One regression of each interface that learns, on all boundaries of the batch."""
        if isinstance(self.interface.between, Learning):
            self._learn_spans()
        if above is not None and isinstance(self.interface.behind, Learning):
            found = [(span.h.detach(), self.batch.told(k), above.down(k)) for k, span in enumerate(self.spans)]
            states, labels, targets = (torch.cat(steps, dim=1) for steps in zip(*found, strict=True))
            self.interface.fit(states, labels, targets).backward()

    def _asked(self, k: int) -> Tensor | None:
        """The labels of span k, to the loss or to the interface that is there."""
        steps, batch = self.batch.steps(k), self.batch
        if isinstance(self.interface.behind, Loss):
            return batch.asks.part(batch.y, steps.start, steps.stop, batch.ends[-1])
        return batch.told(k)

    def _answer(self, k: int) -> Tensor | None:
        """g at the end of span k; None where nothing comes behind it, or nobody knows of it."""
        batch, h = self.batch, self.spans[k].end.detach()
        told = batch.asks.coming(batch.y, batch.ends[k])
        if k + 1 < len(batch.ends):
            between = self.interface.at(k + 1)
            if isinstance(between, CoarseSteps):
                return between.ahead(h, partial(self._ahead, batch.ends[k]))
            return between.gradient(h, told, self.back(k + 1), batch.n)
        between = self.interface.between
        return between.predict(h, told) if batch.goes_on and isinstance(between, Synthetic) else None

    def _ahead(self, start: int, s: Tensor, factor: int) -> Tensor:
        """The loss of all steps from there on, if s were the state in front of them."""
        assert self.x is not None, "refused before"
        batch, end = self.batch, self.batch.ends[-1]
        asked = batch.asks.part(batch.y, start, end, end)
        assert asked is not None, "as far as the end"
        return batch.asks.loss(self.network.unroll(self.x[:, start:], s, factor)[0], asked)

    def _learn_spans(self) -> None:
        """On all t_k; those of one interface are put below each other."""
        found, t = defaultdict[Interface, list[tuple[Tensor, Tensor, Tensor]]](list), None
        for k, span in reversed(list(enumerate(self.spans))):
            r = self.back(k)
            if r is None:
                break
            if self.batch.later > 0 and t is not None:
                assert span.g is not None, "between two spans"
                r = r + torch.autograd.grad(span.end, span.s, self.batch.later * (t - span.g))[0]
            t = r
            told = self.batch.asks.coming(self.batch.y, self.batch.steps(k).start)
            found[self.interface.at(k)].append((span.s.detach(), told, t))
        self.interface.rows = len(self.batch.y)
        for between, boundaries in found.items():
            assert isinstance(between, Learning), "asked of those"
            states, labels, targets = (torch.cat(rows) for rows in zip(*boundaries, strict=True))
            # On the scale of the mean over all these rows, as the interface takes it to be.
            between.fit(states, labels, targets / len(boundaries)).backward()


@final
class Unrolled(Replicated):
    """One process plays the method's schedule in time and depth, span by span; the optimizer steps once a batch.

    Where a batch goes on with what the one before has ended with, the state is carried on, cut off, and the boundary
    between the two batches is one like the others, but for those who wait for a true gradient: it does not come.

    Args:
        span: steps of a span.
        later: λ.

    Raises:
        ValueError: the network is not recurrent, or the data are no sequences, or λ > 0 with several stages.
    """

    in_time = True

    def __init__(self, stages: Sequence[Stage], method: Method, *, span: Count, later: Share):
        super().__init__(stages, method, lag=0)
        task, found = self.task, [recurrence(stage.block) for stage in stages]
        self.networks = [network for network in found if network is not None]
        if len(self.networks) < len(stages) or not isinstance(task, SequenceTask):
            raise ValueError(
                "execution=unrolled is for recurrent networks on sequences: choose arch=lstm data=copy, or leave "
                "execution=unrolled out."
            )
        if later > 0 and len(stages) > 1:
            raise ValueError(
                f"execution.later={later:g} follows gradients through the state of the whole network, which is cut in "
                "depth, too: choose stages=1, or leave it out."
            )
        self.span, self.later, self.asks = span, later, task
        if isinstance(task, AtEnd):
            # All sequences have one length, so a boundary is always as far from the end.
            for stage in stages:
                each, steps = stage.interface, stage.inlet[0]
                assert isinstance(each, EachSpan), "made so"
                each.spread(len(range(span, steps, span)))
        self.began: Tensor | None = None
        """The state of all stages in front of the latest batch."""
        self.carried: Tensor | None = None
        """The state that the next batch begins with, where it goes on."""

    def step(self, n: int, x: Input, y: Labels, ahead: int = 0) -> State:
        ends = [*range(self.span, x.shape[1], self.span), x.shape[1]]
        batch = Sequences(n, y, ends, self.asks.carried and ahead > 0, self.asks, self.post, self.later)
        parts = self._begun(x, batch)
        for operation, i, _ in self.method.schedule(len(ends) * len(parts), n, 0):
            k, j = divmod(i, len(parts))
            if operation is Operation.FORWARD:
                steps = batch.steps(k)
                parts[j].forward(leaf(x[:, steps.start : steps.stop] if j == 0 else parts[j - 1].spans[k].h, j == 0))
            elif operation is Operation.UPDATE:
                parts[j].update(k, parts[j + 1].down(k) if j + 1 < len(parts) else None)
        for j, part in enumerate(parts):
            part.learn(parts[j + 1] if j + 1 < len(parts) else None)
            self.note(Event(Operation.UPDATE, j, n), n)
        ended = [part.spans[-1].end.detach() for part in parts]
        self.carried = torch.cat(ended, dim=1) if batch.goes_on else None
        losses = [span.loss for span in parts[-1].spans if span.loss is not None]
        self.loss.value = torch.stack(losses).sum()
        return torch.cat([span.h.detach() for span in parts[-1].spans], dim=1)

    def through(self, blocks: Sequence[Any], x: Input) -> State:
        network = recurrence(*blocks)
        assert network is not None, "the same network with other weights"
        assert self.began is not None, "asked behind a batch"
        return network.unroll(x, self.began)[0]

    def state_dict(self) -> dict[str, Any]:
        carried = {} if self.carried is None else {"carried": joint_rows(self.carried)}
        return {**super().state_dict(), **carried}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        super().load_state_dict(state, device)
        self.carried = own_rows(state["carried"]).to(device) if "carried" in state else None

    def _begun(self, x: Input, batch: Sequences) -> list[Unrolling]:
        """All stages, in front of the batch."""
        start = torch.cat([network.start(x) for network in self.networks], dim=1)
        self.began = start if self.carried is None else self.carried
        states = self.began.split([network.size for network in self.networks], dim=1)
        return [
            # Nobody wants a gradient in front of what nothing came before.
            Unrolling(network, stage.interface, leaf(s, self.carried is None), batch, None if j > 0 else x)
            for j, (network, stage, s) in enumerate(zip(self.networks, self.stages, states, strict=True))
        ]
