"""Data parallel by hand: R ranks that hold the same network compute what one process computes on the joint batch.

Rank r has the rows r, r + R, r + 2R, ... of each joint batch, all ranks equally many, and its loss is their mean:
so the joint loss is the mean of the ranks' losses, and the joint gradient the mean of their gradients.

Torch's own wrapper reduces once a backward pass; a decoupled step has several, so ours reduces once, after the last.
Without a process group every function here is that of one process.

Below, what ranks that train different parts tell each other, at the same moment: `from_all`, `share_module`.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from costate.architectures.norm import Norm
from costate.core.copies import Likeness
from costate.core.joint import joint_moments
from costate.methods.local import LocalLoss

Group = dist.ProcessGroup | None
T = TypeVar("T", bound=Tensor)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], group: Group = None) -> None:
    """Puts the mean over the ranks into every `.grad`, g ← Σ_r g_r / R, by one all-reduce a device and precision.

    Every rank gives the same parameters in the same order. A gradient that is None counts as zero where another rank
    has one, and stays None where none has, so that an optimizer skips those that it would skip in one process.
    """
    if place(group)[1] == 1:
        return
    for bucket in _buckets([p for p in parameters if p.requires_grad]):
        dtype = torch.promote_types(bucket[0].dtype, torch.float32)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        has = gradients[0].new_tensor([float(p.grad is not None) for p in bucket], dtype=dtype)
        flat = torch.cat([*(g.reshape(-1).to(dtype) for g in gradients), has])
        dist.all_reduce(flat, group=group)
        flat /= place(group)[1]
        *means, has = flat.split([*(p.numel() for p in bucket), len(bucket)])
        for p, mean, some in zip(bucket, means, has.tolist(), strict=True):
            if some:
                p.grad = mean.view_as(p).to(p.dtype)


def _buckets(tensors: Sequence[T]) -> list[list[T]]:
    """Those of the same device and precision."""
    buckets: dict[tuple[torch.device, torch.dtype], list[T]] = {}
    for t in tensors:
        buckets.setdefault((t.device, t.dtype), []).append(t)
    return list(buckets.values())


def place(group: Group = None) -> tuple[int, int]:
    """This process's number among the ranks, and how many there are."""
    several = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(group), dist.get_world_size(group)) if several else (0, 1)


def any_rank(wish: bool, device: torch.device, group: Group = None) -> bool:
    """Whether any rank wishes so."""
    return wish if place(group)[1] == 1 else bool(joint_mean(torch.tensor([float(wish)], device=device), group))


def joint_mean(numbers: Float[Tensor, " n"], group: Group = None) -> Float[Tensor, " n"]:
    """The mean over the ranks."""
    if place(group)[1] == 1:
        return numbers
    total = numbers.clone()
    dist.all_reduce(total, group=group)
    return total / place(group)[1]


def joint_rows(Y: Shaped[Tensor, "rows ..."], group: Group = None) -> Shaped[Tensor, "joint ..."]:
    """The joint batch, of which every rank r holds the rows r::R."""
    parts = [torch.empty_like(Y) for _ in range(place(group)[1])]
    if len(parts) == 1:
        return Y
    dist.all_gather(parts, Y.contiguous(), group=group)
    return torch.stack(parts, dim=1).flatten(0, 1)


def own_rows(Y: Shaped[Tensor, "joint ..."]) -> Shaped[Tensor, "rows ..."]:
    """This rank's rows of a joint batch."""
    r, R = place()
    return Y[r::R]


def joint_gather(row: Float[Tensor, " numbers"], group: Group = None) -> Float[Tensor, "ranks numbers"]:
    """The rows of all ranks, with the gradient of the joint loss."""
    return row[None] if place(group)[1] == 1 else _Gather.apply(row, group)


class _Gather(torch.autograd.Function):
    """A row enters the loss ℓ_s of every rank s, and what comes back on rank r is averaged: ∂(Σ_s ℓ_s)/∂row_r."""

    @staticmethod
    def forward(ctx: Any, row: Tensor, group: Group) -> Tensor:
        ctx.group = group
        # Quicker than a gather where messages are small.
        rows = row.new_zeros(place(group)[1], len(row))
        rows[dist.get_rank(group)] = row
        dist.all_reduce(rows, group=group)
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total[dist.get_rank(ctx.group)], None


class JointBatchNorm(nn.Module):
    """A batch norm over the rows of all ranks, with the parameters and buffers of the given one (torch's wants a GPU).

    Y ← w (Y − m) / √(v + eps) + b, with the mean m and variance v of the joint batch (Ioffe & Szegedy, 2015).
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: _BatchNorm, group: Group = None):
        super().__init__()
        self.eps, self.momentum, self.group = norm.eps, norm.momentum, group
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.train(norm.training)

    def forward(self, Y: Float[Tensor, "rows channels *rest"]) -> Float[Tensor, "rows channels *rest"]:
        if not self.training and self.running_mean is not None:
            return F.batch_norm(Y, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        n, m, v = joint_moments(Y, partial(joint_gather, group=self.group))
        if self.training and self.running_mean is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1
                share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                self.running_mean.lerp_(m.to(self.running_mean.dtype), share)
                self.running_var.lerp_((v * n / (n - 1)).to(self.running_var.dtype), share)
        axes = (-1, *[1] * (Y.dim() - 2))
        X = (Y - m.view(axes)) * (v + self.eps).rsqrt().view(axes)
        if self.weight is not None:
            X = X * self.weight.view(axes)
        if self.bias is not None:
            X = X + self.bias.view(axes)
        return X.to(Y.dtype)


def join_batch_norms(module: nn.Module, group: Group = None) -> nn.Module:
    """Lets every batch norm in a module, and every loss that compares samples or measures them by their variance, see
    the joint batch.

    Parameters, buffers and their names stay.

    Raises:
        ValueError: a batch norm has a forward of its own, which would get lost.
    """
    if isinstance(module, _BatchNorm):
        if type(module).forward not in (_BatchNorm.forward, nn.SyncBatchNorm.forward):
            raise ValueError(
                f"{type(module).__name__} is a batch norm with a forward of its own, and replicas share the statistics "
                "of torch's own alone: train it in one replica, or have it be no subclass of torch's."
            )
        return JointBatchNorm(module, group)
    if isinstance(module, Norm | LocalLoss | Likeness):
        module.gather = partial(joint_gather, group=group)
    for name, child in module.named_children():
        setattr(module, name, join_batch_norms(child, group))
    return module


def from_all(own: Any, group: Group = None) -> list[Any]:
    """What each rank of the group has, by rank."""
    parts: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(parts, own, group=group)
    return parts


@torch.no_grad()
def share_module(part: nn.Module, rank: int, group: Group = None) -> None:
    """Gives every rank the parameters and buffers of one, in one message for each precision."""
    for tensors in _buckets([*part.parameters(), *part.buffers()]):
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.broadcast(flat, src=rank, group=group)
        if rank == dist.get_rank():
            # Written in place its own would no longer be those of a graph that is still to be used.
            continue
        for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(values.view_as(tensor))


def share_optimizer(
    parts: Iterable[tuple[nn.Module, int]], optimizer: torch.optim.Optimizer, group: Group = None
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


def with_rows(state: dict[str, Any], change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """An execution's state with other rows: those of all replicas, from its own, or its own, from those of all.

    A checkpoint holds what is pending of the joint batch: it does not tell how many replicas there were.
    """

    def rescaled(g: Tensor) -> Tensor:
        # A gradient of the mean over so many rows, as one of the mean over the rows that it has now.
        rows = change(g)
        return rows * (len(g) / len(rows))

    def of_flight(kept: dict[str, Any]) -> dict[str, Any]:
        # Replicas have the same weights.
        return {name: change(value) if isinstance(value, Tensor) else value for name, value in kept.items()}

    return {
        "flights": [{n: of_flight(kept) for n, kept in flights.items()} for flights in state["flights"]],
        "lessons": [{n: tuple(map(change, rows)) for n, rows in lessons.items()} for lessons in state["lessons"]],
        "gradients": {key: rescaled(g) for key, g in state["gradients"].items()},
        "states": {key: change(h) for key, h in state["states"].items()},
        "copies": state["copies"],
    }
