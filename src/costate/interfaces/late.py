"""True gradients that arrive late.

g used = β g        at every boundary that g passes, so β^(K − 1 − k) of the loss's gradient behind stage k of K

Zhuang et al. (2021), Fully decoupled neural network learning using delayed gradients (1906.09108).
"""

from torch import Tensor

from costate.interfaces.base import Interface
from costate.types import Labels, State


class Late(Interface):
    """Hands on the gradient that arrived, shrunk: the later it is, the less it counts (Zhuang et al., 2021).

    Args:
        shrink: β.
    """

    def __init__(self, shrink: float):
        super().__init__()
        self.shrink = shrink

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        assert arrived is not None, "a late interface needs a schedule that waits for the gradient"
        return arrived if self.shrink == 1 else self.shrink * arrived
