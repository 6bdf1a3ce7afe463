"""Integrators: one step of the state from time t to t + h.

    Y   first field of a state, the one that the head reads
    V   velocity, Z dual: second field of a state, 0 at first

Each integrator is a file of its own, with its equation.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import ClassVar, NamedTuple, final

import torch
from hydra.utils import get_class
from torch import Tensor

from costate.architectures.fields import Field, Layer
from costate.config.composing import options


class Integrator(ABC):
    """One step of a state, which is the tuple of its fields.

    Attributes:
        fields: number of fields of a state.
        evaluations: of σ in a step: 1, `layer.f` or `layer.force`, or 2, both `layer.f` and `layer.dual`.
        half_start: whether the very first step of the second field is a half one.
    """

    fields: ClassVar[int]
    evaluations: ClassVar[int]
    half_start: bool = False

    @abstractmethod
    def weights(self, field: Field) -> Tensor:
        """The weights that the steps use, all layers stacked: K, or something made of it."""

    @abstractmethod
    def step(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        """The state at t + h from the state at t."""

    def coarser(self, ratio: float) -> "Integrator":
        """The integrator of a copy whose time steps are `ratio` of these; here the same one, of its own order."""
        return self

    @property
    def order(self) -> int:
        """The power of h like which the error of the first field falls, for a field that does not depend on time."""
        return 1

    def late(self, state: tuple[Tensor, ...], layer: Layer, Δ: float) -> tuple[Tensor, ...]:
        """The state with what lives half a time step before the rest moved on by Δ."""
        return state


class Euler(Integrator):
    """Y ← Y + h f(Y): one field, one evaluation.

    c such steps are Y + H f + ½ H² (1 − 1/c) f′f + O(H³) with H = c h, and so is one of a copy,

        Y ← Y + H f(Y + β H f(Y)),   β = ½ (1 − 1/c),

    which misses the steps that it makes up for by H³, not by H².

    Attributes:
        ahead: β; 0 in a network that is nobody's copy.
    """

    fields = 1
    evaluations = 1
    ahead: float = 0.0

    @final
    def step(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        (Y,) = state
        at = Y if self.ahead == 0 else torch.add(Y, layer.f(Y), alpha=self.ahead * layer.h)
        return (torch.add(Y, layer.f(at), alpha=layer.h),)

    @final
    def coarser(self, ratio: float) -> "Euler":
        other = copy.copy(self)
        other.ahead = (1 - 1 / ratio) / 2
        return other


class Shear(NamedTuple):
    """a ← a + c f(b), where a and b are the fields of a state with these numbers; a ← a − c f(b) undoes it exactly."""

    a: int
    b: int
    c: float
    f: Callable[[Tensor], Tensor]

    def __call__(self, state: tuple[Tensor, ...], sign: int = 1) -> tuple[Tensor, ...]:
        """The state behind the shear; with sign −1 the one in front of it."""
        changed = torch.add(state[self.a], self.f(state[self.b]), alpha=sign * self.c)
        return (changed, state[1]) if self.a == 0 else (state[0], changed)


class Reversible(Integrator):
    """A step of two fields that can be undone, because each of its parts changes one field by a function of the other.

    A subclass says the shears, in the order in which they are applied. The field that the first one changes lives half
    a time step before the other: so understood, the step is of order 2 (Störmer; Hairer, Lubich & Wanner, 2003).
    So a copy with longer steps moves that field to its own middles, and back in the end; and its first shears take the
    weights of the moment at which the fine ones are in the mean, which is not the middle of its layer.

    Attributes:
        staggered: whether that is so; False of a symmetric step, whose fields both live at whole steps.
    """

    fields = 2
    staggered: ClassVar[bool] = True

    @abstractmethod
    def shears(self, layer: Layer) -> tuple[Shear, ...]:
        """What a step does."""

    def weights(self, field: Field) -> Tensor:
        return field.K

    @property
    def order(self) -> int:
        return 2 if self.half_start or not self.staggered else 1

    @final
    def step(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        shears = self.shears(layer)
        if layer.early is not None and self.staggered:
            shears = self.shears(layer.early)[:1] + shears[1:]
        for shear in shears:
            state = shear(state)
        return state

    @final
    def late(self, state: tuple[Tensor, ...], layer: Layer, Δ: float) -> tuple[Tensor, ...]:
        return self.shears(layer._replace(h=Δ, kick=Δ))[0](state) if self.staggered else state


@cache
def one_way() -> str:
    """For networks that others refuse; it names those of conf/arch whose layers can be run backwards."""
    steps = {name: node.integrator._target_ for name, node in options("arch").items() if "integrator" in node}
    names = [name for name, target in steps.items() if issubclass(get_class(target), Reversible)]
    return f"the layers of this network cannot be run backwards: choose arch={' or '.join(names)}."
