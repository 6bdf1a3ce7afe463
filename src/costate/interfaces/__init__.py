"""What stands on a boundary between two stages and says what the gradient of the loss is there.

    passing      what came up, as it is or changed, or nothing
    local        a loss of its own, by a head or a critic
    synthetic    what a synthesizer predicts, and the synthesizers
    coarse       the gradient of a coarse copy of what is behind

Methods choose one, stages ask it; `costate.core.interface` says what all have in common.
"""

from costate.interfaces.coarse import Coarse
from costate.interfaces.local import Critic, LocalLoss
from costate.interfaces.passing import Exact, Feedback, Late, Silent
from costate.interfaces.synthetic import Synthetic

__all__ = ["Coarse", "Critic", "Exact", "Feedback", "Late", "LocalLoss", "Silent", "Synthetic"]
