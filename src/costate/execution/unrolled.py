"""A recurrent network, unrolled over spans of steps: a span is to time what a stage is to depth.

The method's schedule, which is one of stages in a row, is played on the spans in their order, and in each on the stages
in theirs. Decoupled, a stage updates on a span at once; locked, updates go back all the way. Of two stages and spans:

    stage 1   . . F U . . F U          . F . F U . U .
    stage 0   F U . . F U . .          F . F . . U . U
"""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from costate.architectures.recurrent import recurrence
from costate.config.settings import Count, Share
from costate.core.interface import EachSpan
from costate.core.method import Method
from costate.core.schedules import Event, Operation
from costate.core.stage import Stage, leaf
from costate.core.tasks import AtEnd, SequenceTask
from costate.core.types import Input, Labels, State
from costate.execution.replicas import joint_rows, own_rows
from costate.execution.serial import Replicated
from costate.execution.spans import Sequences, Unrolling


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
        super().load_state_dict({name: part for name, part in state.items() if name != "carried"}, device)
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
