"""Synthetic gradients (Jaderberg et al., 2017): stages update at once, under gradients that synthesizers predict."""

from collections.abc import Callable, Iterator, Sequence

from costate.config.settings import Share, Size
from costate.core.block import Block
from costate.core.method import Method
from costate.core.schedules import Event, decoupled, locked
from costate.core.tasks import Task
from costate.core.types import Shape
from costate.interfaces import Synthetic
from costate.interfaces.synthetic import Synthesizer
from costate.posts import Compress, compressed


class SyntheticGradients(Method):
    """Synthetic interfaces; decoupled, but locked while a share of the true gradient is used.

    Args:
        conditioned: whether synthesizers read the label beside the state.
        warmup_steps: batches at the start for which stages use true gradients, while the synthesizers already learn.
        mix: λ, the share of the true gradient after that; 0 is decoupled, 1 is backpropagation.
        synthesizer: makes a synthesizer for a shape and a number of label entries.
        compress: what is sent of a gradient: all of it, signs with one size a sample, or its largest entries.
        share: of the entries, where the largest are sent.
        discount: γ, what is used of a prediction.
    """

    in_time = True

    def __init__(
        self,
        *,
        conditioned: bool,
        warmup_steps: Size,
        mix: Share,
        synthesizer: Callable[[Shape, int], Synthesizer],
        compress: Compress = "none",
        share: Share = 1.0,
        discount: Share = 1.0,
    ):
        self.conditioned, self.warmup_steps, self.mix = conditioned, warmup_steps, mix
        self.synthesizer, self.discount = synthesizer, discount
        self.sent = compressed(compress, share)

    def interface(self, shape: Shape, task: Task, behind: Sequence[Block]) -> Synthetic:
        synthesizer = self.synthesizer(shape, task.context if self.conditioned else 0)
        return Synthetic(synthesizer, task if self.conditioned else None, self.share, self.discount)

    def schedule(self, stages: int, n: int, lag: int) -> Iterator[Event]:
        return (locked if self.share(n) > 0 else decoupled)(stages, n, lag)

    def share(self, n: int) -> float:
        """λ at batch n."""
        return 1.0 if n < self.warmup_steps else self.mix
