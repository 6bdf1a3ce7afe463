"""What goes up a boundary: a letter for each batch, from the stage behind to the interface in front.

    stage k + 1                              boundary k                   stage k
    update on batch n  ->  Post.write  ->  letter, so many bytes  ->  Post.read  ->  its interface, and its memory

A method chooses the post; an execution carries letters and knows nothing of what they say. What an interface wants of
many batches at a time, a copy of a stage, goes up by `costate.core.copies`. Imports nothing of ours but words.
"""

from costate.core.post import Gradient, GradientAndState, Letter, Losses, OutputError, Passage, Post, Reply
from costate.posts.bytes import Coded, Compress, Largest, Precision, Sign, coding, compressed

__all__ = [
    "Coded",
    "Compress",
    "Gradient",
    "GradientAndState",
    "Largest",
    "Letter",
    "Losses",
    "OutputError",
    "Passage",
    "Post",
    "Precision",
    "Reply",
    "Sign",
    "coding",
    "compressed",
]
