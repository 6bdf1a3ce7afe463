"""The error at the network's output, handed on from stage to stage."""

from typing import final

import torch

from costate.core.tasks import Task
from costate.core.types import State
from costate.posts.base import Letter, Passage, Post


@final
class OutputError(Post):
    """e = ∂ℓ/∂output, (batch, outputs): the last stage finds it, the others hand it on."""

    gradients = False

    def __init__(self, task: Task):
        self.task = task

    def write(self, passage: Passage) -> Letter:
        if passage.told is not None:
            return (passage.told,)
        with torch.enable_grad():
            output = passage.h.detach().requires_grad_()
            return torch.autograd.grad(self.task.loss(output, passage.y), output)

    def room(self, h: State) -> Letter:
        return (h.new_empty(len(h), self.task.outputs),)
