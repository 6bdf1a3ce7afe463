"""Integrators: one step of the state from time t to t + h.

    Y   first field of a state, the one that the head reads
    V   velocity, Z dual: second field of a state, 0 at first

Those of conf/arch stand at the end, each with its equation; one more may stand in a file of its own.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import ClassVar, NamedTuple, final

import torch
from hydra.utils import get_class
from torch import Tensor

from costate.architectures.fields import Composed, Field, Layer
from costate.config.composing import options
from costate.config.settings import Amount


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

    def weights(self, field: Field) -> Tensor:
        """The weights that the steps use, all layers stacked: K, or something made of it."""
        return field.K

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
        """The state behind the shear; with sign −1 the one in front of it.

        Raises:
            ValueError: a is b, which nothing undoes.
        """
        if self.a == self.b:
            raise ValueError(f"Shear({self.a}, {self.b}, ...): a field is moved by a function of the other one.")
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


@final
class Resnet(Euler):
    """Y ← Y + h σ(Y K + b) (He et al., 2016; E, 2017)."""


@final
class Antisymmetric(Euler):
    """Y ← Y + h σ(½ Y (K − Kᵀ − γ I) + b) (Haber & Ruthotto, 2017, section 4.1).

    Eigenvalues of the field's Jacobian have real part ≤ 0 (without batch norm, which rescales by a sign of its own).

    Args:
        gamma: γ ≥ 0, damping that makes up for Euler's growth on the imaginary axis.
    """

    def __init__(self, *, gamma: Amount):
        self.gamma = gamma

    def weights(self, field: Field) -> Tensor:
        return field.skew(self.gamma)


Y, V, Z = 0, 1, 1
"""Numbers of the fields in a state."""


@final
class Leapfrog(Reversible):
    """V ← V − h σ(Y K + b) Kᵀ;  Y ← Y + h V (Chang et al., 2018, "MidPoint" and "Leapfrog"; Haber & Ruthotto, 2017).

    The two-step form Y_{j+1} = 2 Y_j − Y_{j−1} − h² σ(Y_j K + b) Kᵀ with V_j = (Y_j − Y_{j−1}) / h, so that the state
    has a limit as h → 0.

    Args:
        half_start: the first step of V is h/2, V lives at half steps, and Y is of order 2.
    """

    evaluations = 1

    def __init__(self, *, half_start: bool):
        self.half_start = half_start

    def shears(self, layer: Layer) -> tuple[Shear, ...]:
        return Shear(V, Y, -layer.kick, layer.force), Shear(Y, V, layer.h, Composed())


@final
class Verlet(Reversible):
    """Z ← Z − h σ(Y Kᵀ + b);  Y ← Y + h σ(Z K + b) (Haber & Ruthotto, 2017, section 4.2; Chang et al., 2018).

    Args:
        half_start: the first step of Z is h/2, Z lives at half steps, and Y is of order 2.
    """

    evaluations = 2

    def __init__(self, *, half_start: bool):
        self.half_start = half_start

    def shears(self, layer: Layer) -> tuple[Shear, ...]:
        return Shear(Z, Y, -layer.kick, layer.dual), Shear(Y, Z, layer.h, layer.f)


@cache
def one_way() -> str:
    """For networks that others refuse; it names those of conf/arch whose layers can be run backwards."""
    steps = {name: node.integrator._target_ for name, node in options("arch").items() if "integrator" in node}
    names = [name for name, target in steps.items() if issubclass(get_class(target), Reversible)]
    return f"the layers of this network cannot be run backwards: choose arch={' or '.join(names)}."
