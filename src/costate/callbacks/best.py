"""Which epoch is the best: that of the best validation score, and of equal scores the one with the lower loss."""

from typing import Literal, final


@final
class Best:
    """What is kept of the epochs so far. A loss is minimised: it is taken at its own minimum, whatever the score was.

    Args:
        score: name of the validation metric that counts.
        mode: whether a good score is high or low.

    Attributes:
        numbers: the best score under its own name and `best_epoch`, counted from 1, with `best_epoch/val/loss`; the
            least `val/loss` of all epochs and `least_loss_epoch`. Empty before the first epoch.
    """

    def __init__(self, score: str, mode: Literal["min", "max"]):
        self.score, self.sign = score, 1.0 if mode == "max" else -1.0
        self.numbers: dict[str, float] = {}

    def see(self, epoch: int, score: float, loss: float) -> bool:
        """Takes the epoch in; whether it is the best one by now."""
        kept = self.numbers
        # Checkpoints of earlier versions know of one loss.
        known = [(self.sign * kept[self.score], -kept.get("best_epoch/val/loss", kept["val/loss"]))] if kept else []
        better = all((self.sign * score, -loss) > pair for pair in known)
        if better:
            self.numbers = kept | {self.score: score, "best_epoch": epoch, "best_epoch/val/loss": loss}
        if not kept or loss < kept["val/loss"]:
            self.numbers = self.numbers | {"val/loss": loss, "least_loss_epoch": epoch}
        return better
