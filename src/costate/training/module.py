"""A network cut in stages, as a LightningModule with manual optimisation; and torch.compile of the stages."""

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import lightning
import torch
import torchmetrics
from torch import Tensor, nn

from costate.architectures.recurrent import recurrence
from costate.architectures.stable import StableBlock
from costate.core.block import Block, evaluating, stacked
from costate.core.interface import EachSpan, Loss
from costate.core.method import Method
from costate.core.stage import Stage
from costate.core.tasks import SequenceTask, Task
from costate.core.types import Shape
from costate.execution.base import Execution
from costate.training.optimizers import Annealing, Optimizer

Batch = tuple[Tensor, Tensor]

# With its patterns torch 2.13 makes V + Y K of V + c Y K, which is `torch.add(V, Y @ K, alpha=c)`, without a word.
OPTIONS = {"pattern_matcher": False}
GRAPHS = 8
"""Of a stage: with gradients and without, of whole batches and of rests, of more layers."""


class Training(lightning.LightningModule):
    """Trains stages by a method; one optimizer steps once a batch, so that `trainer.global_step` counts batches.

    A validation loss or weights that are not finite end the fit, before a checkpoint has them.

    Args:
        blocks: the stages of a network, in the order of the forward pass.
        execution: who plays the schedule of the method.
        clip: bound on the gradient norm of each stage and of each interface, or None.
        config: the resolved settings of the run, kept in checkpoints.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        shape: Shape,
        task: Task,
        method: Method,
        execution: Callable[[Sequence[Stage], Method], Execution],
        optimizer: Optimizer,
        annealing: Annealing,
        *,
        clip: float | None,
        config: dict[str, Any],
    ):
        super().__init__()
        self.automatic_optimization = False
        self.save_hyperparameters(config)
        self.task, self.optimizer, self.annealing = task, optimizer, annealing
        self.clip, self.shape = clip, shape
        parts = stages(blocks, shape, task, method)
        self.stages = nn.ModuleList(parts)
        # Such as a mask of −∞.
        self.endless = {name for name, buffer in self.named_buffers() if not buffer.isfinite().all()}
        self.execution = execution(parts, method)
        self.iteration = method.iteration(self.execution)
        self.seen: Batch | None = None
        """The network's output on the latest batch and the labels, where this process has the last stage."""
        self.val = _Scores(task, self.execution.alike)
        self.test = _Scores(task, self.execution.alike)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return x

    def configure_optimizers(self) -> Any:
        lr, interfaces = self.optimizer.lr, self.optimizer.lr * self.optimizer.interfaces
        groups = [
            {"params": [p for p in part.parameters() if p.requires_grad], "name": f"{name}/{k}", "lr": rate}
            for k, stage in enumerate(self.execution.stages)
            for name, part, rate in (
                ("block", stage.block, lr),
                ("interface", stage.interface, interfaces),
                ("likeness", stage.likeness, interfaces),
            )
            if part is not None
        ]
        optimizer = self.optimizer([group for group in groups if group["params"]], stacked(self.stages))
        steps = int(self.trainer.estimated_stepping_batches)
        self.execution.plan(steps)
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: self.annealing.factor(n / steps))]

    def on_fit_start(self) -> None:
        self.execution.connect()

    def on_fit_end(self) -> None:
        self.execution.disconnect()

    def training_step(self, batch: Batch, i: int) -> None:
        n = self.trainer.global_step
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        output = self.iteration.gradient(n, *batch, ahead=self._ahead(i))
        labels = self.execution.labels
        self.seen = None if output is None else (output, batch[1] if labels is None else labels)
        self.execution.average()
        self.iteration.advance(optimizer)
        self.execution.stepped()
        self.lr_schedulers().step()  # type: ignore[union-attr]

    def _ahead(self, i: int) -> int:
        """Batches of this epoch behind its i-th; a loader knows of one more by itself."""
        return 0 if self.trainer.is_last_batch else max(1, int(self.trainer.num_training_batches) - 1 - i)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Each stage by itself: a process that holds one stage must come to the same result."""
        if self.clip is not None:
            for group in optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], self.clip)

    def on_validation_start(self) -> None:
        self.execution.gather()

    def validation_step(self, batch: Batch, i: int) -> None:
        self.val(self(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        scores = self.val.compute("val")
        if not scores["val/loss"].isfinite():
            raise _diverged(f"the validation loss is {scores['val/loss']:g}", self.current_epoch)
        self.log_dict(scores, prog_bar=True)

    def test_step(self, batch: Batch, i: int) -> None:
        self.test(self(batch[0]), batch[1])

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.test.compute("test"))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The checkpoint that is there is better than one of such weights.
        tensors = {name: θ for name, θ in checkpoint["state_dict"].items() if isinstance(θ, Tensor)}
        bad = [name for name, θ in tensors.items() if name not in self.endless and not θ.isfinite().all()]
        if bad:
            raise _diverged(f"{bad[0]} is not finite", self.current_epoch)
        checkpoint["execution"] = self.execution.state_dict()
        checkpoint["iteration"] = self.iteration.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Lightning would do so after it has read the weights, and those of 64-true would have lost their last digits.
        self.trainer.precision_plugin.convert_module(self)
        self.execution.load_state_dict(checkpoint["execution"], self.trainer.strategy.root_device)
        self.iteration.load_state_dict(checkpoint.get("iteration", {}), self.trainer.strategy.root_device)


def _diverged(what: str, epoch: int) -> ValueError:
    return ValueError(
        f"In epoch {epoch + 1} {what}: lower optimizer.lr or set clip=1; checkpoints are those of the epochs before."
    )


class _Scores(nn.Module):
    """Loss and score over all batches of all ranks, or of one where ranks are alike."""

    def __init__(self, task: Task, alike: bool):
        super().__init__()
        self.task = task
        self.loss = torchmetrics.MeanMetric(sync_on_compute=not alike)
        self.score = task.metric(across_ranks=not alike)

    def forward(self, output: Tensor, y: Tensor) -> None:
        answers = self.task.answers(y)
        self.loss.update(self.task.loss(output, y) * len(y) / answers, answers)
        self.score.update(output, y)

    def compute(self, prefix: str) -> dict[str, Tensor]:
        readings = {"loss": self.loss.compute(), **self.task.readings(self.score.compute())}
        values = {f"{prefix}/{name}": value for name, value in readings.items()}
        self.loss.reset()
        self.score.reset()
        return values


def stages(blocks: Sequence[Block], shape: Shape, task: Task, method: Method) -> list[Stage]:
    """Puts the method's interfaces between the blocks and the loss behind the last; in time, between spans, too.

    Raises:
        ValueError: the data ask for an answer at the steps of a sequence, and the network gives one a sample.
    """
    networks = [recurrence(block) for block in blocks]
    spans = [None if each is None else method.between_spans(each.size, task, each.step) for each in networks]
    result, memories = [], method.memories(blocks)
    for k, (block, between) in enumerate(zip(blocks, spans, strict=True)):
        inlet, shape = shape, _shape_behind(block, shape)
        # Where a network is cut in time a boundary in depth has a state a step.
        state = shape if between is None else shape[1:]
        behind = method.interface(state, task, blocks[k + 1 :]) if k + 1 < len(blocks) else Loss(task)
        interface = behind if between is None else EachSpan(behind, between)
        front = method.front(blocks[:k]) if k > 0 else None
        result.append(Stage(block, interface, inlet, memories[k], method.likeness(block, k == 0), front))
    if isinstance(task, SequenceTask) and len(shape) != 2:
        raise ValueError("These data are sequences, which a recurrent network reads: choose arch=lstm, or other data.")
    return result


@torch.no_grad()
def _shape_behind(block: Block, shape: Shape) -> Shape:
    with evaluating(block):
        return tuple(block(torch.zeros(1, *shape)).shape[1:])


def compile_blocks(blocks: Sequence[Block], deepens: bool = False) -> None:
    """The same training pass with what lies between two products in one operation: in place, when each is first called.

    Modules, the names of their weights and their copies stay what they are. Blocks that differ in nothing but their
    weights share what is compiled.

    Args:
        deepens: whether the network becomes deeper in training.

    Raises:
        ValueError: torch finds no compiler, or a network goes through its layers step by step in time, or is to become
            deeper while it rebuilds its states.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None and not torch.cuda.is_available():
        raise ValueError(
            f"compile=true needs a C++ compiler, and {compiler} is not here: install one, or leave it out."
        )
    if any(recurrence(block) is not None for block in blocks):
        raise ValueError("compile=true compiles stages in depth, and this network is cut in time: leave it out.")
    if deepens and any(isinstance(block, StableBlock) and block.rebuilds for block in blocks):
        # Behind a doubling autograd expects gradients of as few layers as there were, even after a compiler.reset().
        raise ValueError(
            "compile=true with arch.reversible=true trains a network of one depth: leave one of them out, or levels."
        )
    # All of them count as one function, of which torch compiles eight variants and runs the rest as it is.
    torch._dynamo.config.recompile_limit = GRAPHS * len(blocks)
    for block in blocks:
        block.compile(options=OPTIONS)
