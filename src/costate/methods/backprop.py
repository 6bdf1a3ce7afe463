"""Backpropagation, the baseline: every stage waits for the true gradient."""

from collections.abc import Iterator, Sequence

from costate.architectures.block import Block
from costate.interfaces import Exact
from costate.methods.base import Method
from costate.posts import Compress, Post, compressed
from costate.schedules import Event, locked
from costate.settings import Share
from costate.tasks import Task
from costate.types import Shape


class Backprop(Method):
    """Exact interfaces, locked schedule: autograd, cut in stages.

    Args:
        compress: what is sent of a gradient: all of it, signs with one size a sample, or its largest entries.
        share: of the entries, where the largest are sent.
    """

    def __init__(self, *, compress: Compress = "none", share: Share = 1.0):
        self.compressed = compressed(compress, share)

    def post(self, task: Task) -> Post:
        return self.compressed

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Exact:
        return Exact()

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return locked(stages, n, lag)
