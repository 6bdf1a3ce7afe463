"""By how much the stages amplify a disturbance of their state."""

from typing import Any, final

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from costate.callbacks.measurement import Measurement
from costate.config.settings import Count
from costate.core.measures import amplification


@final
class StabilityProbe(Measurement):
    """Largest singular value of each stage's propagation, ∂(state behind its last layer) / ∂(state before its first).

    Logged as `stage/<k>/amplification`, the mean over a few samples of the latest batch; 1 is a stage that neither
    amplifies nor forgets. Opening and head are left out. Of a recurrent network it logs nothing.

    Args:
        samples: of the batch that are looked at.
        rounds: of the power iteration, which comes to the value from below.
    """

    def __init__(self, *, every: Count, samples: Count, rounds: Count):
        super().__init__(every)
        self.samples, self.rounds = samples, rounds
        self.inputs: dict[int, Tensor] = {}
        self.hooks: list[Any] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stages: Any = pl_module.stages
        for k, stage in enumerate(stages):
            self.hooks.append(stage.block.register_forward_pre_hook(self._keeper(k)))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.inputs = [], {}

    def measure(self, module: LightningModule) -> dict[str, Tensor]:
        training: Any = module
        if training.execution.in_time:
            return {}
        stages = training.stages
        # A process that trains one stage has seen no inputs of the others.
        return {f"stage/{k}/amplification": self._of(stages[k].block, x) for k, x in sorted(self.inputs.items())}

    def _of(self, block: Any, x: Tensor) -> Tensor:
        # In evaluation mode batch norm neither mixes the samples nor moves its statistics.
        training = block.training
        block.eval()
        Y = block.open(x[: self.samples].detach()).detach()
        found = amplification(lambda h: block.propagate(h)[-1], Y, self.rounds)
        block.train(training)
        return found

    def _keeper(self, k: int) -> Any:
        def keep(block: nn.Module, inputs: tuple[Tensor]) -> None:
            if block.training:
                self.inputs[k] = inputs[0].detach()

        return keep
