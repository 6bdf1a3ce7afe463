"""Networks that can be cut into stages: the stable ones of Haber and Ruthotto, and plain ones.

A leaf of the package: it knows nothing of methods, of training and of who runs the stages.
"""

from costate.architectures.block import Block
from costate.architectures.network import Network

__all__ = ["Block", "Network"]
