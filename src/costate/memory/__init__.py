"""What a stage remembers of a batch between its forward and its backward pass, which may be batches apart."""

from costate.memory.base import Flight, Memory
from costate.memory.checkpoint import Checkpoint
from costate.memory.graph import Graph
from costate.memory.rebuild import Rebuild
from costate.memory.replay import Replay
from costate.memory.stash import Stash

__all__ = ["Checkpoint", "Flight", "Graph", "Memory", "Rebuild", "Replay", "Stash"]
