"""Integrators: one step of the state from time t to t + h.

    Y   first field of a state, the one that the head reads
    V   velocity, Z dual: second field of a state, 0 at first

Each integrator is a file of its own, with its equation.
"""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from costate.architectures.fields import Field, Layer


class Integrator(ABC):
    """One step of a state, which is the tuple of its fields.

    Attributes:
        fields: number of fields of a state.
        evaluations: number of evaluations of σ in a step.
        half_start: whether the very first step of the second field is a half one.
    """

    fields: ClassVar[int]
    evaluations: ClassVar[int]
    half_start: bool = False

    def check(self, width: int) -> None:  # noqa: B027
        """Asked before there is a field; most take any width.

        Raises:
            ValueError: a state cannot have so many features or channels a field; it begins with arch.width=...
        """

    @abstractmethod
    def weights(self, field: Field) -> Tensor:
        """The weights that the steps use, all layers stacked: K, or something made of it."""

    @abstractmethod
    def step(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        """The state at t + h from the state at t."""


def one_way() -> str:
    """The sentence for layers that cannot be run backwards: it names the networks whose layers can, by their files."""
    package = __name__.rpartition(".")[0]
    modules = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    for name in modules:
        import_module(f"{package}.{name}")
    reversible = {kind.__module__ for kind in Reversible.__subclasses__()}
    names = [name for name in modules if f"{package}.{name}" in reversible]
    return f"the layers of this network cannot be run backwards: choose arch={' or '.join(names)}."


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

    A subclass says the shears, in the order in which they are applied.
    """

    fields = 2

    @abstractmethod
    def shears(self, layer: Layer) -> tuple[Shear, ...]:
        """What a step does."""

    def weights(self, field: Field) -> Tensor:
        return field.K

    @final
    def step(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        for shear in self.shears(layer):
            state = shear(state)
        return state

    @final
    def inverse(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        """The state at t from the state at t + h."""
        for shear in reversed(self.shears(layer)):
            state = shear(state, -1)
        return state
