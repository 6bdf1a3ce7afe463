"""What stands on a boundary between two stages and says what the gradient of the loss is there."""

from costate.core.interface import EachSpan, Interface, Learning, Loss
from costate.core.likeness import CopiedBlocks, Likeness
from costate.interfaces.coarse import Coarse
from costate.interfaces.local import Critic, LocalLoss
from costate.interfaces.passing import Exact, Feedback, Late, Silent
from costate.interfaces.synthetic import Synthetic

__all__ = [
    "Coarse",
    "CopiedBlocks",
    "Critic",
    "EachSpan",
    "Exact",
    "Feedback",
    "Interface",
    "Late",
    "Learning",
    "Likeness",
    "LocalLoss",
    "Loss",
    "Silent",
    "Synthetic",
]
