"""How well a predicted gradient ĝ answers for the gradient g.

Rows are samples, (batch, *shape); sums run in float64 over the whole batch, so the order of samples does not matter.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from costate.types import State

Number = Float[Tensor, ""]


def cosine(prediction: State, g: State) -> Number:
    """⟨ĝ, g⟩ / (‖ĝ‖ ‖g‖) over all entries of the batch; 0 where one of them vanishes, for it points nowhere."""
    prediction, g = prediction.double(), g.double()
    return _ratio((prediction * g).sum(), prediction.norm() * g.norm())


def relative_error(prediction: State, g: State) -> Number:
    """‖ĝ − g‖ / ‖g‖; 0 where both vanish, ∞ where g alone does."""
    prediction, g = prediction.double(), g.double()
    error, norm = (prediction - g).norm(), g.norm()
    return torch.where(error == 0, error, error / norm)


def explained_variance(prediction: State, g: State) -> Number:
    """1 − Var(g − ĝ) / Var(g), variances over samples, summed over features; 0 where g does not vary."""
    prediction, g = prediction.double(), g.double()
    variance = _variance(g)
    return _ratio(variance - _variance(g - prediction), variance)


def norm(gradients: list[Tensor]) -> Number:
    """√ Σ ‖g‖² over tensors of any shapes; 0 without any."""
    return torch.stack([g.double().norm() for g in gradients]).norm() if gradients else torch.zeros(())


def _variance(Y: Tensor) -> Tensor:
    return (Y - Y.mean(dim=0)).square().sum()


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b == 0, torch.zeros_like(a), a / b)
