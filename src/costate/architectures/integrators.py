"""Integrators: one step of the state from time t to t + h.

    Y   first field of a state, the one that the head reads
    V   velocity, Z dual: second field of a state, 0 at first

Each integrator is a file of its own, with its equation.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

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

    @abstractmethod
    def weights(self, field: Field) -> Tensor:
        """The weights that the steps use, all layers stacked: K, or something made of it."""

    @abstractmethod
    def step(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        """The state at t + h from the state at t."""


class Reversible(Integrator):
    """A step of two fields that can be undone."""

    fields = 2

    def weights(self, field: Field) -> Tensor:
        return field.K

    @abstractmethod
    def inverse(self, state: tuple[Tensor, ...], layer: Layer) -> tuple[Tensor, ...]:
        """The state at t from the state at t + h."""
