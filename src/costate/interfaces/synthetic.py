"""Synthetic gradients.

    ĝ = S(h, c)                          S: synthesizer, c: the label as numbers, or nothing
    g used  = λ g + (1 − λ) γ ĝ          λ = 0: decoupled; 0 < λ ≤ 1 has to wait for the true g
    fit     = 1/2 mean_i ‖ĝ_i − g_i‖²    over the samples i of a batch

Jaderberg et al. (2017), Decoupled neural interfaces using synthetic gradients, equations 6 and 7 and supplement A.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from costate.interfaces.base import Learning
from costate.interfaces.synthesizers import Synthesizer
from costate.tasks import Task
from costate.types import Context, Labels, State


class Synthetic(Learning):
    """Answers what a synthesizer predicts, or a mixture of that and the gradient that arrived.

    Args:
        synthesizer: S, on the scale of each sample's own loss.
        task: tells the label to S; None leaves S unconditioned.
        share: λ at batch n.
        discount: γ; below 1 it keeps errors from growing where each target has a prediction in it.
    """

    def __init__(
        self, synthesizer: Synthesizer, task: Task | None, share: Callable[[int], float], discount: float = 1.0
    ):
        super().__init__()
        self.synthesizer = synthesizer
        self.task = task
        self.share = share
        self.discount = discount

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        share = self.share(n)
        if share == 1:
            assert arrived is not None, "a share of the true gradient needs a schedule that waits for it"
            return arrived
        g = self.predict(h, y)
        if share == 0:
            return g
        assert arrived is not None, "a share of the true gradient needs a schedule that waits for it"
        return torch.lerp(g, arrived, share)

    @torch.no_grad()
    def predict(self, h: State, y: Labels) -> Tensor:
        """γ ĝ, of the batch's mean loss."""
        return self.synthesizer(h, self._context(y)).to(h.dtype) * self.discount / len(h)

    def fit(self, h: State, y: Labels, target: State) -> Float[Tensor, ""]:
        # Detached here, so that the regression never reaches the network, wherever h comes from.
        prediction = self.synthesizer(h.detach(), self._context(y))
        g = target.detach() * len(h)
        self.last = (prediction.detach(), g)
        return F.mse_loss(prediction, g, reduction="sum") / (2 * len(h))

    def _context(self, y: Labels) -> Context | None:
        return None if self.task is None else self.task.describe(y)
