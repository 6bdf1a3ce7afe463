"""No gradient crosses the boundary."""

import torch
from torch import Tensor

from costate.interfaces.base import Interface
from costate.types import Labels, State


class Silent(Interface):
    """Answers g = 0, so only the last stage learns: the "No Bprop" baseline of Jaderberg et al. (2017)."""

    def gradient(self, h: State, y: Labels, arrived: State | None, n: int) -> Tensor:
        return torch.zeros_like(h)
