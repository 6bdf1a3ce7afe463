"""What stands on a boundary between two stages and says what the gradient of the loss is there."""

from costate.interfaces.base import Interface, Learning
from costate.interfaces.coarse import Coarse
from costate.interfaces.copies import CopiedBlocks, Likeness
from costate.interfaces.critic import Critic
from costate.interfaces.each_span import EachSpan
from costate.interfaces.exact import Exact
from costate.interfaces.feedback import Feedback
from costate.interfaces.late import Late
from costate.interfaces.local import LocalLoss
from costate.interfaces.loss import Loss
from costate.interfaces.silent import Silent
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
