"""Stable networks: an opening, `depth` steps of an integrator over the time interval [0, T], a head.

h   time step T / depth
θ   weights of a layer, K and b
α   weight of the smoothness in time
"""

import copy
from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.fields import Field, Layer
from costate.architectures.forms import Form
from costate.architectures.integrators import Integrator, Reversible, one_way
from costate.architectures.reversal import Steps, rebuilt
from costate.config.settings import Amount, Count, Rate
from costate.core.block import Block, Coarsening, Network, State
from costate.core.types import Shape


@final
class StableBlock(Block):
    """Steps of an integrator; the state's fields are stacked on axis 1 wherever the block ends without a head.

    Args:
        opening: samples to Y, if the block is a network's first; the second field starts at 0.
        field: weights of the layers.
        head: Y to the output, if the block is a network's last.
        integrator: what a layer does.
        h: time step.
        smoothness: α.
        rebuilds: whether the states between the layers are rebuilt in the backward pass, not stored.

    Attributes:
        before, after: time steps of the layers in front and behind, of which those of a copy are longer; 0 in front if
            the second field begins where the first does.
        fine: time step of the layers that these make up for, in a copy; else h.
    """

    def __init__(
        self,
        opening: nn.Module | None,
        field: Field,
        head: nn.Module | None,
        integrator: Integrator,
        h: float,
        smoothness: float,
        rebuilds: bool = False,
    ):
        super().__init__()
        self.opening = opening
        self.field = field
        self.head = head
        self.integrator = integrator
        self.h = h
        self.smoothness = smoothness
        self.rebuilds = rebuilds
        self.reversible = isinstance(integrator, Reversible)
        self.opens = opening is not None
        self.before = 0.0 if self.opens and integrator.half_start else h
        self.after = self.fine = h
        self.register_load_state_dict_pre_hook(_take_depth)

    @property
    def layers(self) -> int:
        return len(self.field.K)

    def forward(self, x: State) -> State:
        state = self.enter(x)
        # A coarse copy has few states, and kicks that are of an earlier time than its steps.
        if self.rebuilds and self.fine == self.h and torch.is_grad_enabled():
            if state[0].dtype in (torch.bfloat16, torch.float16):
                raise ValueError(
                    "arch.reversible=true rebuilds states from their last digits, of which half precision has too few: "
                    "use trainer.precision=bf16-mixed or 32-true"
                )
            return self.leave(rebuilt(Steps(self.integrator, self.field, self.h, self.kick), state))
        for layer in self.steps():
            state = self.integrator.step(state, layer)
        return self.leave(state)

    def open(self, x: State) -> State:
        return torch.cat(self.enter(x), dim=1)

    def propagate(self, h: State) -> list[State]:
        states, state = [], tuple(h.chunk(self.integrator.fields, dim=1))
        for layer in self.steps():
            state = self.integrator.step(state, layer)
            states.append(torch.cat(state, dim=1))
        return states

    def retrace(self, h: State, x: State | None) -> tuple[State, State]:
        if not self.reversible:
            raise ValueError(one_way())
        assert self.head is None, "a head cannot be run backwards"
        into = None
        if self.opening is None:
            x = torch.empty_like(h).requires_grad_()
            into = x.detach().chunk(2, dim=1)
        assert x is not None, "an opening cannot be run backwards"
        end = tuple(map(self.laid, h.chunk(2, dim=1)))
        steps = Steps(self.integrator, self.field, self.h, self.kick)
        return x, self.leave(rebuilt(steps, self.enter(x), end, into))

    def steps(self, track: bool = True) -> list[Layer]:
        """The layers as the integrator takes them, under today's weights; norms keep track of the batches or not."""
        early = (1 - self.fine / self.h) / 2
        return self.field.layers(self.integrator.weights(self.field), self.h, self.kick, track, early)

    @property
    def kick(self) -> float:
        """The first step of the second field, from the middle of the time step before to the middle of the first."""
        return (self.before + self.h) / 2

    def enter(self, x: State) -> tuple[Tensor, ...]:
        """The state's fields, from the samples or from the tensor at the boundary."""
        if self.opening is None:
            # Not views: how operands lie in memory decides a product's last bits, which are to be the uncut network's.
            return tuple(map(self.laid, x.chunk(self.integrator.fields, dim=1)))
        # Under autocast an opening gives bfloat16, in which Y + h σ would lose the small steps.
        Y = self.opening(self.laid(x)).to(self.field.K.dtype)
        return Y, *(torch.zeros_like(Y) for _ in range(self.integrator.fields - 1))

    def leave(self, state: tuple[Tensor, ...]) -> State:
        """The head of Y, or the tensor at the boundary."""
        if self.head is not None:
            return self.head(state[0])
        if self.after != self.h:
            state = self.integrator.late(state, self.steps(track=False)[-1], (self.h - self.after) / 2)
        return state[0] if len(state) == 1 else torch.cat(state, dim=1)

    def penalty(self) -> Float[Tensor, ""] | None:
        """α/(2h) Σ ‖θ_{j+1} − θ_j‖² over neighbouring layers of the block (Haber & Ruthotto, 2017, section 5)."""
        if self.smoothness == 0 or self.layers == 1:
            return None
        squares = [θ.diff(dim=0).square().sum() for θ in self.field.stacks()[: self.field.timed]]
        return self.smoothness / (2 * self.h) * torch.stack(squares).sum()

    def ending(self) -> list[nn.Parameter]:
        return [] if self.head is None else list(self.head.parameters())

    def slice(self, start: int, end: int) -> "StableBlock":
        opening = copy.deepcopy(self.opening) if start == 0 else None
        head = copy.deepcopy(self.head) if end == self.layers else None
        part = self.field.slice(start, end)
        return StableBlock(opening, part, head, self.integrator, self.h, self.smoothness, self.rebuilds)

    def coarser(self, rule: Coarsening) -> int:
        return rule.layers(self.layers, self.h)

    def stand_for(self, block: Block) -> None:
        assert isinstance(block, StableBlock), "its copy"
        self.before, self.after, self.fine = block.before, block.after, block.h
        self.integrator = block.integrator.coarser(self.h / block.h)

    def join(self, behind: Block) -> None:
        assert isinstance(behind, StableBlock), "of the same network"
        self.after = behind.before = self.h

    def stacks(self) -> list[Float[Tensor, "layers ..."]]:
        return [*self.field.parameters(), *self.field.buffers()]

    def refine(self, stacks: Sequence[Float[Tensor, "finer ..."]]) -> None:
        ratio = self.layers / len(stacks[0])
        self.h, self.fine = ratio * self.h, ratio * self.fine
        self.before, self.after = ratio * self.before, ratio * self.after
        for stack, rows in zip(self.stacks(), stacks, strict=True):
            stack.grad = None
            stack.data = rows


def _take_depth(block: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights of another level make the block as deep as they are: a checkpoint says itself how deep it is."""
    assert isinstance(block, StableBlock)
    layers = len(state.get(f"{prefix}field.K", block.field.K))
    if layers != block.layers:
        block.refine([stack.new_empty(layers, *stack.shape[1:]) for stack in block.stacks()])


@final
class StableNetwork(Network):
    """dY/dt = f(Y; θ(t)) on [0, T], discretised by the integrator (Haber & Ruthotto, 2017; Chang et al., 2018).

    Args:
        shape: of a sample.
        outputs: numbers that the head gives.
        integrator: what a layer does.
        form: whether states are vectors or images.
        depth: number of layers.
        T: end of the time interval, h = T / depth.
        width: features or channels of one field.
        activation: σ.
        norm: whether there is batch norm in front of each σ.
        smoothness: α ≥ 0.
        reversible: whether states are rebuilt in the backward pass, not stored: memory does not grow with the depth.

    Raises:
        ValueError: if samples of that shape do not go with the form and the width, if the integrator does not go with
            the form, or if a network is to be reversible whose integrator is not.
    """

    def __init__(
        self,
        shape: Shape,
        outputs: int,
        *,
        integrator: Integrator,
        form: Form,
        depth: Count,
        T: Rate,
        width: Count,
        activation: Literal["tanh", "relu"],
        norm: bool,
        smoothness: Amount,
        reversible: bool = False,
    ):
        if reversible and not isinstance(integrator, Reversible):
            raise ValueError(f"arch.reversible=true: {one_way()}")
        opening = form.opening(shape, width)
        field = form.field(depth, width, integrator.evaluations, activation, norm)
        integrator.weights(field)  # refuses a field that has none such
        head = form.head(width, outputs)
        block = StableBlock(opening, field, head, integrator, T / depth, smoothness, reversible)
        super().__init__(block, "raise arch.depth")
