"""The gradient as it is, alone or with the state at which it was taken."""

from typing import final

from costate.core.types import State
from costate.posts.base import Letter, Passage, Post


@final
class Gradient(Post):
    """g."""

    def write(self, passage: Passage) -> Letter:
        return (passage.g,)

    def room(self, h: State) -> Letter:
        return (h,)


@final
class GradientAndState(Post):
    """g and x, for a memory that has kept neither its output nor its input (PETRA: Rivaud et al., 2025)."""

    def write(self, passage: Passage) -> Letter:
        return passage.g, passage.x

    def room(self, h: State) -> Letter:
        return h, h
