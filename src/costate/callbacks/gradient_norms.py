"""How large the gradients are under which stages step."""

from typing import Any, final

from lightning.pytorch import LightningModule
from torch import Tensor

from costate.callbacks.measurement import Measurement
from costate.config.settings import Count
from costate.core.measures import norm


@final
class GradientNorms(Measurement):
    """Norm of the gradient of all parameters of each stage's block, before clipping, as `stage/<k>/gradient_norm`."""

    def __init__(self, *, every: Count):
        super().__init__(every)

    def measure(self, module: LightningModule) -> dict[str, Tensor]:
        stages: Any = module.stages
        gradients = [[p.grad for p in stage.block.parameters() if p.grad is not None] for stage in stages]
        # A process that trains one stage has no gradients of the others.
        return {f"stage/{k}/gradient_norm": norm(own) for k, own in enumerate(gradients) if own}
