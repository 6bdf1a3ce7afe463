"""Every rank gets the tensors that the others have trained: a stage's block from its own rank, its interface from the
oracle's.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from costate.execution.roles import Roles
from costate.stage import Stage


def owners(stages: Sequence[Stage], roles: Roles) -> Iterator[tuple[nn.Module, int]]:
    """Each part of the network, and the rank that trains it."""
    for k, stage in enumerate(stages):
        yield stage.block, roles.rank_of(k)
        if k < len(stages) - 1:
            yield stage.interface, roles.oracle_of(k)


@torch.no_grad()
def share_tensors(stages: Sequence[Stage], roles: Roles) -> None:
    """Parameters and buffers."""
    for part, rank in owners(stages, roles):
        for tensor in (*part.parameters(), *part.buffers()):
            dist.broadcast(tensor.detach(), src=rank)


def share_optimizer(stages: Sequence[Stage], roles: Roles, optimizer: torch.optim.Optimizer) -> None:
    """The optimizer's state."""
    for part, rank in owners(stages, roles):
        parameters = list(part.parameters())
        states: list[Any] = [[optimizer.state.get(p, {}) for p in parameters]]
        dist.broadcast_object_list(states, src=rank)
        if rank != dist.get_rank():
            optimizer.state.update({p: state for p, state in zip(parameters, states[0], strict=True) if state})
