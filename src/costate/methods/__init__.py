"""How the boundaries of a network are trained: an interface for each of them, and a schedule."""

from costate.methods.backprop import Backprop
from costate.methods.base import Method
from costate.methods.coarse import CoarseCopies
from costate.methods.critics import LocalCritics
from costate.methods.delayed import Delayed
from costate.methods.feedback import DirectFeedback
from costate.methods.greedy import Greedy
from costate.methods.no_bprop import NoBprop
from costate.methods.petra import Petra
from costate.methods.replay import FeaturesReplay
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
