"""Where to cut a network so that all stages have equal work, interfaces included: nobody waits for a slower stage.

    w_j   work of layer j, forward and backward              (floating-point operations of a few rows)
    u_j   work of an interface behind layer j: its answer, and its learning
    W_k = Σ_j w_j over the layers of stage k + u behind its last layer;   the cut with the least max_k W_k is taken

Operations are counted, not timed: a cut must not depend on the hour, for a resumed run has to find it again.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from costate.architectures.recurrent import recurrence
from costate.core.block import Block, Network
from costate.core.interface import Interface, Learning
from costate.core.method import Method
from costate.core.tasks import Task
from costate.core.types import Shape

ROWS = 4


def by_work(network: Network, method: Method, stages: int, shape: Shape, task: Task) -> list[int]:
    """The number of layers of each stage.

    Raises:
        ValueError: there are fewer layers than stages, or the network is cut in time, too.
    """
    if not 1 < stages <= network.layers:
        return [block.layers for block in network.cut(stages)]
    if recurrence(network.block) is not None:
        raise ValueError("balance=work counts what stages in depth do, and this network is cut in time: give sizes.")
    # Counting draws no random numbers that training would draw.
    with torch.random.fork_rng(devices=[]):
        return partition(*work(network.block, method, shape, task, network.layers // stages), stages)


def work(block: Block, method: Method, shape: Shape, task: Task, stage: int = 1) -> tuple[list[int], list[int]]:
    """w of each layer, and u behind each layer but the last; a stage has about `stage` layers, where an interface tells
    the next stages from the others.
    """
    near = 0 if method.copies is None else method.copies.near
    h, layers, interfaces = torch.zeros(ROWS, *shape), [], []
    for j in range(block.layers):
        layer, x = block.slice(j, j + 1), h.requires_grad_(j > 0)
        with _Operations() as passes:
            h = layer(x)
            if h.requires_grad:  # not behind a first layer that learns nothing
                h.sum().backward()
        layers.append(passes.total)
        if j + 1 < block.layers:
            h = h.detach()
            ends = sorted({min(j + 1 + n * stage, block.layers) for n in range(near + 1)} | {block.layers})
            interface = method.interface(tuple(h.shape[1:]), task, [block.slice(*piece) for piece in pairwise(ends)])
            with _Operations() as answer:
                _answers(interface, method, task, h)
            interfaces.append(answer.total)
    return layers, interfaces


def partition(layers: Sequence[int], interfaces: Sequence[int], stages: int) -> list[int]:
    """The numbers of consecutive layers, of works w, with interfaces of works u between them, that leave the busiest
    stage the least work; of several, the next busiest too.
    """
    behind = [*interfaces, 0]
    # best[n]: the works of stages over the first n layers, busiest first, and where they end.
    best: dict[int, tuple[list[int], list[int]]] = {0: ([], [])}
    for k in range(stages):
        found: dict[int, tuple[list[int], list[int]]] = {}
        for end in range(k + 1, len(layers) - (stages - 1 - k) + 1):
            found[end] = min(
                (sorted([*works, sum(layers[start:end]) + behind[end - 1]], reverse=True), [*sizes, end - start])
                for start, (works, sizes) in best.items()
                if start < end
            )
        best = found
    return best[len(layers)][1]


def _answers(interface: Interface, method: Method, task: Task, h: Tensor) -> None:
    """What is done at a boundary for each batch."""
    post, y = method.post(task), task.blank(ROWS)
    arrived = None if post is None else post.read(post.room(h), h).g
    interface.gradient(h, y, arrived, 0)
    if isinstance(interface, Learning) and arrived is not None:
        interface.fit(h, y, arrived).backward()


class _Operations(TorchDispatchMode):
    """Adds up the floating-point operations of products and convolutions, of backward passes, too. Torch's own counter
    has hooks on modules, which `torch.autograd.grad` to a leaf refuses.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out
