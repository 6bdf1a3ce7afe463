"""A recurrent network, unrolled over spans of steps: a span is to time what a stage is to depth.

    s_k   state in front of span k, cut from the graph of the span before     (batch, size)
    ℓ_k   loss of the steps of span k, ℓ = Σ_k ℓ_k
    g_k   gradient of the losses behind s_k there, as the interface answers it
    J_k   ∂s_{k+1}/∂s_k
    r_k   what comes out of span k at its beginning: ∂ℓ_k/∂s_k + J_kᵀ g_{k+1}
    t_k   what the interface learns of s_k: r_k + λ J_kᵀ (t_{k+1} − g_{k+1})

    forward k   s_{k+1} = cell(x of span k, s_k)
    update  k   the backward pass of span k under g_{k+1}
    learn   k   the interface learns t_{k+1}

λ = 0 is DNI: targets see one span ahead (Jaderberg et al., 2017, section 3.1). λ > 0 mixes in what was found further
on, λ = 1 the true gradients of the batch's steps: the forward view of BP(λ) (Pemberton & Costa, 2024, 2401.07044).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from costate.architectures.recurrent import Recurrence, recurrence
from costate.config.settings import Count, Share
from costate.core.interface import EachSpan, Interface, Learning
from costate.core.method import Method
from costate.core.post import Passage
from costate.core.schedules import Event, Operation
from costate.core.stage import Stage
from costate.core.tasks import SequenceTask
from costate.core.types import Input, Labels, State
from costate.execution.replicas import joint_rows, own_rows
from costate.execution.serial import Replicated
from costate.methods.synthetic_gradients import Synthetic


@dataclass
class Span:
    """What is remembered of a span until its batch is over.

    Attributes:
        s, end: the state in front of it, a leaf, and behind it, with the graph in between.
        loss: of its steps; None where none of them counts.
        g: the gradient at its end that it was updated under; None where none was.
    """

    s: Tensor
    end: Tensor
    output: Tensor
    loss: Tensor | None
    g: Tensor | None = None


@final
class Unrolled(Replicated):
    """One process plays the method's schedule in time, span by span; the optimizer steps once a batch.

    Where a batch goes on with what the one before has ended with, the state is carried on, cut off, and the boundary
    between the two batches is one like the others, but for those who wait for a true gradient: it does not come.

    Args:
        span: steps of a span.
        later: λ.

    Raises:
        ValueError: the network is not recurrent, or the data are no sequences.
    """

    in_time = True

    def __init__(self, stages: Sequence[Stage], method: Method, *, span: Count, later: Share):
        super().__init__(stages, method, lag=0)
        found, task, loss = recurrence(stages[0].block), self.task, stages[0].interface
        if found is None or not isinstance(task, SequenceTask):
            raise ValueError(
                "execution=unrolled is for recurrent networks on sequences: choose arch=lstm data=copy, or leave "
                "execution=unrolled out."
            )
        assert isinstance(loss, EachSpan), "made so"
        self.span, self.later, self.asks, self.behind = span, later, task, loss
        self.network: Recurrence = found
        self.began: Tensor | None = None
        """The state in front of the latest batch."""
        self.carried: Tensor | None = None
        """The state that the next batch begins with, where it goes on."""

    @property
    def between(self) -> Interface:
        """What stands between spans."""
        return self.behind.between

    def step(self, n: int, x: Input, y: Labels, more: bool = False) -> State:
        steps, goes_on = x.shape[1], self.asks.carried and more
        self.began = self.network.start(x) if self.carried is None else self.carried
        ends = [*range(self.span, steps, self.span), steps]
        spans: list[Span] = []
        for operation, k, _ in self.method.schedule(len(ends), n, 0):
            if operation is Operation.FORWARD:
                s = (spans[-1].end if spans else self.began).detach()
                # Nobody wants a gradient in front of what nothing came before.
                s.requires_grad_(k > 0 or self.carried is not None)
                spans.append(self._forward(x, y, s, k * self.span, ends[k]))
            elif operation is Operation.UPDATE:
                told = self.asks.coming(y, ends[k])
                arrived = self._sent(spans[k + 1], told) if k + 1 < len(spans) else None
                self._update(spans[k], self._answer(spans[k], told, arrived, n, k + 1 == len(ends), goes_on))
        if isinstance(self.between, Learning):
            self._learn(spans, y)
        self.carried = spans[-1].end.detach() if goes_on else None
        self.note(Event(Operation.UPDATE, 0, n), n)
        losses = [span.loss.detach() for span in spans if span.loss is not None]
        self.behind.value = torch.stack(losses).sum()
        return torch.cat([span.output for span in spans], dim=1)

    def through(self, blocks: Sequence[Any], x: Input) -> State:
        network = recurrence(blocks[0])
        assert network is not None, "the same network with other weights"
        assert self.began is not None, "asked behind a batch"
        return network.unroll(x, self.began)[0]

    def state_dict(self) -> dict[str, Any]:
        carried = {} if self.carried is None else {"carried": joint_rows(self.carried)}
        return {**super().state_dict(), **carried}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        super().load_state_dict({name: part for name, part in state.items() if name != "carried"}, device)
        self.carried = own_rows(state["carried"]).to(device) if "carried" in state else None

    def _forward(self, x: Input, y: Labels, s: Tensor, start: int, end: int) -> Span:
        output, state = self.network.unroll(x[:, start:end], s)
        asked = self.asks.part(y, start, end, x.shape[1])
        return Span(s, state, output.detach(), None if asked is None else self.task.loss(output, asked))

    def _answer(
        self, span: Span, y: Labels, arrived: Tensor | None, n: int, last: bool, goes_on: bool
    ) -> Tensor | None:
        """g at the span's end; None where nothing comes behind it, or nobody knows of it."""
        h = span.end.detach()
        if not last:
            return self.between.gradient(h, y, arrived, n)
        return self.between.predict(h, y) if goes_on and isinstance(self.between, Synthetic) else None

    def _update(self, span: Span, g: Tensor | None) -> None:
        span.g = g
        roots = [] if span.loss is None else [span.loss]
        gradients: list[Tensor | None] = [None] * len(roots)
        if g is not None:
            roots, gradients = [*roots, span.end], [*gradients, g]
        if roots:
            torch.autograd.backward(roots, gradients, retain_graph=self.later > 0)

    def _sent(self, span: Span, y: Labels) -> Tensor | None:
        """r, as the method's post brings it to the boundary in front of the span."""
        post, r = self.post, span.s.grad
        if post is None or r is None:
            return None
        return post.read(post.write(Passage(span.s.detach(), r, span.end.detach(), y)), span.s).g

    def _learn(self, spans: Sequence[Span], y: Labels) -> None:
        """One regression on all boundaries of the batch, whose rows are put below each other."""
        learning, found = self.between, list[tuple[Tensor, Tensor, Tensor]]()
        assert isinstance(learning, Learning), "asked of those"
        t: Tensor | None = None
        for k, span in reversed(list(enumerate(spans))):
            told = self.asks.coming(y, k * self.span)
            r = self._sent(span, told)
            if r is None:
                break
            if self.later > 0 and t is not None:
                assert span.g is not None, "between two spans"
                r = r + torch.autograd.grad(span.end, span.s, self.later * (t - span.g))[0]
            t = r
            found.append((span.s.detach(), t, told))
        if not found:
            return
        self.behind.rows = len(y)
        states, targets, labels = (torch.cat(rows) for rows in zip(*found, strict=True))
        # On the scale of the mean over all these rows, as the interface takes it to be.
        learning.fit(states, labels, targets / len(found)).backward()
