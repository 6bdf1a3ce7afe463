"""Every rank gets what the others have trained: in a pipeline a stage from its own rank; asynchronously a stage's block
from its own, its interface from the oracle's.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from costate.core.stage import Stage
from costate.execution.roles import Roles


def owners(stages: Sequence[Stage], roles: Roles) -> Iterator[tuple[nn.Module, int]]:
    """Each part of the network, and the rank that trains it."""
    for k, stage in enumerate(stages):
        yield stage.block, roles.rank_of(k)
        if k < len(stages) - 1:
            yield stage.interface, roles.oracle_of(k)


def from_all(own: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
    """What each rank of the group has, by rank."""
    parts: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(parts, own, group=group)
    return parts


def share_tensors(stages: Sequence[Stage], roles: Roles) -> None:
    """Parameters and buffers."""
    for part, rank in owners(stages, roles):
        share_module(part, rank)


@torch.no_grad()
def share_module(part: nn.Module, rank: int, group: dist.ProcessGroup | None = None) -> None:
    """Parameters and buffers, in one message for each precision."""
    alike: dict[torch.dtype, list[Tensor]] = defaultdict(list)
    for tensor in (*part.parameters(), *part.buffers()):
        alike[tensor.dtype].append(tensor.detach())
    for tensors in alike.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.broadcast(flat, src=rank, group=group)
        if rank == dist.get_rank():
            # Written in place its own would no longer be those of a graph that is still to be used.
            continue
        for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(values.view_as(tensor))


def share_optimizer(
    parts: Iterable[tuple[nn.Module, int]], optimizer: torch.optim.Optimizer, group: dist.ProcessGroup | None = None
) -> None:
    """The optimizer's state of each part, from the rank that trains it."""
    owned = [(list(part.parameters()), rank) for part, rank in parts]
    own = [[optimizer.state.get(p, {}) for p in parameters] for parameters, rank in owned if rank == dist.get_rank()]
    ranks = dist.get_process_group_ranks(group)
    states = {rank: iter(theirs) for rank, theirs in zip(ranks, from_all(own, group), strict=True)}
    for parameters, rank in owned:
        found = zip(parameters, next(states[rank]), strict=True)
        if rank != dist.get_rank():
            optimizer.state.update({p: state for p, state in found if state})
