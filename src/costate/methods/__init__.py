"""How the boundaries of a network are trained: an interface for each of them, and a schedule."""

from costate.core.method import Method
from costate.methods.backprop import Backprop
from costate.methods.coarse import CoarseCopies
from costate.methods.feedback import DirectFeedback, NoBprop
from costate.methods.late import Delayed, FeaturesReplay, Petra
from costate.methods.local import Greedy, LocalCritics
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
