"""Images that are read as sequences, row by row or pixel by pixel (Le, Jaitly & Hinton, 2015)."""

from typing import Literal, final

from torch import Tensor

from costate.config.settings import Count, Size
from costate.core.tasks import AtEnd, Classification
from costate.data.images import Images, Mnist


@final
class SequentialMnist(Images):
    """MNIST as 28 steps of 28 pixels or as 784 steps of one; the class is asked for at the end.

    Args:
        by: what is read at a step.
    """

    source = Mnist.source

    def __init__(
        self,
        *,
        by: Literal["row", "pixel"],
        root: str,
        cache: str,
        download: bool,
        train: Count | None,
        validation: Count,
        batch_size: Count,
        seed: Size,
        shuffle_seed: Size,
    ):
        super().__init__(
            root=root,
            cache=cache,
            download=download,
            train=train,
            validation=validation,
            batch_size=batch_size,
            augment="none",
            seed=seed,
            shuffle_seed=shuffle_seed,
        )
        self.shape = (28, 28) if by == "row" else (784, 1)
        self.task = AtEnd(Classification(self.source.classes))

    def setup(self, stage: str | None = None) -> None:
        fresh = self.parts is None
        super().setup(stage)
        if fresh:
            standardise = self.prepare
            self.prepare = lambda x: self._steps(standardise(x))

    def _steps(self, x: Tensor) -> Tensor:
        return x.view(len(x), *self.shape)
