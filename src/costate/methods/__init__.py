"""How the boundaries of a network are trained: an interface for each of them, a post, a memory, and a schedule.

    backprop                  the baseline, and with less memory
    late                      true gradients that arrive late:  delayed, replay, petra
    synthetic_gradients       predicted ones
    coarse                    those of coarse copies of what is behind
    local                     none from behind:  greedy, critic, feedback, none
    variable_distribution     another algorithm, by `costate.pvd`, on `network_loss`

A file of conf/method makes one of them; `training` asks it for the stages' parts, an execution for the order.
"""

from costate.core.method import Method
from costate.methods.backprop import Backprop
from costate.methods.coarse import CoarseCopies
from costate.methods.late import Delayed, FeaturesReplay, Petra
from costate.methods.local import DirectFeedback, Greedy, LocalCritics, NoBprop
from costate.methods.synthetic_gradients import SyntheticGradients
from costate.methods.variable_distribution import VariableDistribution

__all__ = [
    "Backprop",
    "CoarseCopies",
    "Delayed",
    "DirectFeedback",
    "FeaturesReplay",
    "Greedy",
    "LocalCritics",
    "Method",
    "NoBprop",
    "Petra",
    "SyntheticGradients",
    "VariableDistribution",
]
