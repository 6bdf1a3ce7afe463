"""True gradients that arrive late, and nobody waits; the methods differ in what a stage remembers until then."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from costate.config.settings import Count, Share, Size
from costate.core.block import Block
from costate.core.interface import Interface
from costate.core.method import Iteration, Method, OptimizerStep, Player
from costate.core.post import GradientAndState
from costate.core.schedules import Event, delayed
from costate.core.stage import Memory
from costate.core.tasks import Task
from costate.core.types import Input, Labels, Shape, State
from costate.methods.compression import Compress, compressed
from costate.methods.memories import Rebuild, Replay, Stash


class Late(Interface):
    """Hands on the gradient that arrived, shrunk: the later it is, the less it counts.

        g used = β g        at every boundary that g passes, so β^(K − 1 − k) of the loss's gradient behind stage k of K

    Zhuang et al. (2021), Fully decoupled neural network learning using delayed gradients (1906.09108).

    Args:
        shrink: β.
    """

    def __init__(self, shrink: float):
        super().__init__()
        self.shrink = shrink

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        assert arrived is not None, "a late interface needs a schedule that waits for the gradient"
        return arrived if self.shrink == 1 else self.shrink * arrived


@dataclass(kw_only=True, eq=False)
class LateGradients(Method):
    """Late interfaces, delayed schedule.

    Args:
        delay: batches by which a gradient gets older at each boundary; 0 waits for it.
        accumulate: a, the batches from one step of the optimizer to the next.

    Attributes:
        shrink: β, by which a gradient is multiplied at each boundary.
    """

    delay: Size
    accumulate: Count
    shrink = 1.0

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Late:
        return Late(self.shrink)

    @abstractmethod
    def memory(self, block: Block, behind: int) -> Memory: ...

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return delayed(stages, n, self.delay)

    def iteration(self, player: Player) -> Iteration:
        return OptimizerStep(player) if self.accumulate == 1 else AccumulatedStep(player, self.accumulate)


@dataclass(kw_only=True, eq=False)
class Foreseeing(LateGradients):
    """Weights are predicted, and gradients may be compressed.

    Args:
        predict: whether forward passes run under the weights that their gradient is expected to find;
            not where these stand still from one batch to the next.
        compress: what is sent of a gradient: all of it, signs with one size a sample, or its largest entries.
        share: of the entries, where the largest are sent.
    """

    predict: bool
    compress: Compress = "none"
    share: Share = 1.0

    def __post_init__(self) -> None:
        self.sent = compressed(self.compress, self.share)
        self.ahead = self.delay if self.predict and self.accumulate == 1 else 0


@final
@dataclass(kw_only=True, eq=False)
class Delayed(Foreseeing):
    """A backward pass runs under the weights that its forward pass saw (Huo et al., 2018, 1804.10574).

    Args:
        shrink: β, by which a gradient is multiplied at each boundary.
    """

    shrink: Share

    def memory(self, block: Block, behind: int) -> Stash:
        return Stash(self.ahead * behind)


@final
class FeaturesReplay(Foreseeing):
    """A stage keeps its inputs and replays its forward pass under today's weights (Huo et al., 2018, 1807.04511)."""

    def memory(self, block: Block, behind: int) -> Replay:
        return Replay(self.ahead * behind)


@final
class Petra(LateGradients):
    """A reversible stage rebuilds its input from its output under today's weights, and stores neither activations nor
    old weights (PETRA: Rivaud et al., 2025, 2406.02052).
    """

    sent = GradientAndState()

    def memory(self, block: Block, behind: int) -> Rebuild:
        return Rebuild(block)


@final
class AccumulatedStep(Iteration):
    """A step of the optimizer every a batches, under the mean of their gradients:

        θ ← step(θ, Σ g_m / a)        m: the a batches since the last step

    A gradient that is d batches late then is ⌈d / a⌉ updates late at most. On the other batches the optimizer is called
    without gradients, which counts them and moves nothing (Rivaud et al., 2025; Huang et al., 2019).

    Args:
        batches: a.

    Attributes:
        sums: (stage, parameter) -> Σ g_m / a so far.
    """

    def __init__(self, player: Player, batches: int):
        self.player, self.batches, self.n = player, batches, 0
        self.sums: dict[tuple[int, str], Tensor] = {}

    def gradient(self, n: int, x: Input, y: Labels, ahead: int) -> State | None:
        self.n = n
        return self.player.step(n, x, y, ahead)

    def advance(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = {
            (k, name): p for k, stage in enumerate(self.player.stages) for name, p in stage.named_parameters()
        }
        for key, p in parameters.items():
            if p.grad is None:
                # Of a stage that another process trains, out of a checkpoint.
                self.sums.pop(key, None)
                continue
            share = p.grad / self.batches
            self.sums[key] = self.sums[key] + share if key in self.sums else share
        due = (self.n + 1) % self.batches == 0
        for key, p in parameters.items():
            p.grad = self.sums.pop(key, None) if due else None
        optimizer.step()

    def abandon(self) -> None:
        self.sums = {}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.player.collect(list(self.sums.items())))}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.sums = {tuple(key): part.to(device) for key, part in state.get("sums", {}).items()}
