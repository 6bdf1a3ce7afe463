"""How good the gradients are that interfaces predict."""

from typing import Any, final

from lightning.pytorch import LightningModule
from torch import Tensor

from costate.callbacks.measurement import Measurement
from costate.config.settings import Count
from costate.core.measures import cosine, explained_variance, relative_error


@final
class GradientQuality(Measurement):
    """Cosine, relative error and explained variance of each learning interface's latest prediction against its target.

    Logged as `boundary/<k>/...` for the boundary between stages k and k + 1, of a recurrent network for those between
    spans of steps, in their order.
    """

    def __init__(self, *, every: Count):
        super().__init__(every)

    def measure(self, module: LightningModule) -> dict[str, Tensor]:
        numbers = {}
        stages: Any = module.stages
        for k, stage in enumerate(stages):
            # Interfaces that do not learn have none, and those that learn late have none yet on the first batch.
            last = getattr(stage.interface, "last", None)
            for j, pair in enumerate([last] if isinstance(last, tuple) else last or [], k):
                for quantity in (cosine, relative_error, explained_variance):
                    numbers[f"boundary/{j}/{quantity.__name__}"] = quantity(*pair)
        return numbers
