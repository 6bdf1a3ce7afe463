"""The vocabulary of shapes.

A `Shape` is the shape of one sample, without the batch axis: (2,), (64,), (1, 28, 28).
Rows are samples: a state is (batch, *shape).
"""

from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

Shape: TypeAlias = tuple[int, ...]

State: TypeAlias = Float[Tensor, "batch *shape"]
"""What goes down a boundary, and, with the same shape, a gradient that comes back."""

Input: TypeAlias = Float[Tensor, "batch ..."]
"""What goes into a stage, samples or a state: its shape is not that of what comes out."""

Labels: TypeAlias = Int[Tensor, " batch"] | Int[Tensor, "batch steps"] | Float[Tensor, "batch outputs"]
"""Classes as integers, of a sample or of each step of a sequence, or regression targets."""

Context: TypeAlias = Float[Tensor, "batch context"]
"""The label as a synthesizer reads it."""
