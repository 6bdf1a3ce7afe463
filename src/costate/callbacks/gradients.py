"""Gradients: how large they are, how good those that interfaces predict, and how near the true ones.

g_k   gradient of stage k's weights that the optimizer is about to step on, from batch m_k: synthetic, local or late
t_k   gradient of the network's loss on that batch, under the weights that all stages have today

cos ∠(g_k, t_k) over all weights of stage k, smoothness included on both sides; 1 for backpropagation
"""

import copy
from collections.abc import Iterator
from typing import Any, final

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from costate.callbacks.measurement import Measurement
from costate.config.settings import Count
from costate.core.interface import EachSpan
from costate.core.measures import cosine, explained_variance, norm, relative_error
from costate.core.method import OptimizerStep
from costate.execution.replicas import average_gradients


@final
class GradientNorms(Measurement):
    """Norm of the gradient of all parameters of each stage's block, before clipping, as `stage/<k>/gradient_norm`."""

    def measure(self, module: Any) -> dict[str, Tensor]:
        gradients = [[p.grad for p in stage.block.parameters() if p.grad is not None] for stage in module.stages]
        # A process that trains one stage has no gradients of the others.
        return {f"stage/{k}/gradient_norm": norm(own) for k, own in enumerate(gradients) if own}


@final
class GradientQuality(Measurement):
    """Cosine, relative error and explained variance of each learning interface's latest prediction against its target.

    Logged as `boundary/<k>/...` for the boundary between stages k and k + 1. Between spans of steps, in their order, it
    is `boundary/<j>/...` of a network that is one stage, and `stage/<k>/boundary/<j>/...` of each of several.
    """

    def measure(self, module: Any) -> dict[str, Tensor]:
        return {
            f"{boundary}/{quantity.__name__}": quantity(*pair)
            for boundary, pair in _pairs(module.stages)
            for quantity in (cosine, relative_error, explained_variance)
        }


def _pairs(stages: Any) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """The latest prediction and target at each boundary."""
    for k, stage in enumerate(stages):
        interface = stage.interface
        if isinstance(interface, EachSpan):
            place = "boundary" if len(stages) == 1 else f"stage/{k}/boundary"
            yield from ((f"{place}/{j}", pair) for j, pair in enumerate(interface.last))
            interface = interface.behind
        # Interfaces that do not learn have none, and those that learn late have none yet on the first batch.
        last = getattr(interface, "last", None)
        if last is not None:
            yield f"boundary/{k}", last


@final
class GradientCosine(Measurement):
    """Logs `stage/<k>/gradient_cosine`: the gradient that is used against that of backpropagation, before clipping.

    It costs a pass of backpropagation for each stage; the stages of a pipeline exchange their weights for it, and so
    wait for each other. Replicas average both gradients. Asynchronously, where stages have no batch in common, it logs
    nothing, and neither where `method.accumulate` makes a step of several batches, or of pieces of one.
    """

    def __init__(self, *, every: Count):
        super().__init__(every=every)
        self.batches: dict[int, Any] = {}
        """Those that stages have still to update on, and the present one."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        oldest = min((n for stage in pl_module.stages for n in stage.flights), default=trainer.global_step)
        self.batches = {n: seen for n, seen in self.batches.items() if n >= oldest}
        self.batches[trainer.global_step] = batch

    def measure(self, module: Any) -> dict[str, Tensor]:
        execution = module.execution
        if not execution.lockstep or not isinstance(module.iteration, OptimizerStep):
            return {}
        execution.gather()
        numbers = {}
        for k, m in execution.updated.items():
            used = _gradients(module.stages[k].block)
            # A run that is resumed has not seen the batches on their way, and the first ones are still to arrive.
            if used is not None and m in self.batches:
                block = true_network(module, *self.batches[m])[k]
                average_gradients(block.parameters(), execution.peers)
                true = _gradients(block)
                assert true is not None, "backpropagation reaches every stage"
                numbers[f"stage/{k}/gradient_cosine"] = cosine(used, true)
        return numbers


def true_network(training: Any, x: Tensor, y: Tensor) -> list[nn.Module]:
    """Copies of all blocks, with the gradients of the network's loss on this process's rows; nothing of the network
    itself changes.
    """
    # Batch norms of replicas know the ranks that they talk to, which cannot be copied.
    peers = training.execution.peers
    blocks: Any = copy.deepcopy([stage.block for stage in training.stages], {id(peers): peers})
    for block in blocks:
        block.zero_grad()
        # Those who look at what goes through the network are not to see this.
        block._forward_pre_hooks.clear()
    with torch.enable_grad():
        h = training.execution.through(blocks, x)
        penalties = [penalty for block in blocks if (penalty := block.penalty()) is not None]
        torch.stack([training.task.loss(h, y), *penalties]).sum().backward()
    return blocks


def _gradients(block: nn.Module) -> Tensor | None:
    found = [p.grad.flatten() for p in block.parameters() if p.grad is not None]
    return torch.cat(found) if found else None
