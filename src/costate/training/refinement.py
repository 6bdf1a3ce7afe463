"""The levels of a run inside one fit: the network becomes deeper between two epochs, and the fit goes on.

    P    prolongation, along the layers
    θ    weights;  m, v   the optimizer's averages of g and of g²

A fine layer acts for half as long as a coarse one, and so has half its gradient: m ← P m / 2,  v ← P v / 4. Parameters
stay the same objects, so that whoever holds them (optimizer, execution, strategy) need not know.
"""

import time
from collections.abc import Iterable
from typing import Any, final

import torch
from lightning.pytorch import Callback, Trainer

from costate.callbacks.checkpoints import Checkpoints
from costate.callbacks.course import Stopping
from costate.core.block import RULES, Rule, prolong, together
from costate.core.stage import Stage
from costate.training.levels import Plan


@final
class Refinement(Callback):
    """Brings the network to the depth of an epoch's level, and keeps score and seconds of each level.

    The best of the present level is what `checkpoints` keep.
    """

    def __init__(self, plan: Plan, checkpoints: Checkpoints):
        self.plan, self.checkpoints = plan, checkpoints
        self.level = 0
        self.seconds = [0.0] * len(plan.levels)
        self.scores: list[dict[str, float]] = []
        """The validation metrics of the best epoch of each level that is over."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        # A run that is resumed in the middle of an epoch starts none.
        self.since = time.perf_counter()
        pl_module.execution.relate()
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._count()
        while self.level < self.plan.at(trainer.current_epoch):
            self._refine(trainer.optimizers[0], pl_module)
        pl_module.execution.guide(self.plan.levels[self.level].exact)
        for callback in trainer.early_stopping_callbacks:
            if isinstance(callback, Stopping):
                callback.waits = self.level < len(self.plan.levels) - 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._count()
        if len(self.plan.levels) > 1:
            depth = sum(stage.block.layers for stage in pl_module.stages)
            pl_module.log_dict({"level": float(self.level), "depth": float(depth)}, prog_bar=True)

    def state_dict(self) -> dict[str, Any]:
        self._count()
        return {"level": self.level, "seconds": self.seconds, "scores": self.scores}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.level = state_dict["level"]
        self.seconds, self.scores = list(state_dict["seconds"]), list(state_dict["scores"])

    def results(self) -> dict[str, float]:
        """`level/<l>/...` of each level that was come to, if there are several: a user's callback may end the run."""
        if len(self.plan.levels) == 1:
            return {}
        rows = zip(self.plan.levels, self.seconds, [*self.scores, self.checkpoints.record], strict=False)
        return {
            f"level/{i}/{name}": number
            for i, (level, seconds, scores) in enumerate(rows)
            for name, number in {"depth": level.depth, "epochs": level.epochs, **scores, "seconds": seconds}.items()
            if number is not None
        }

    def _refine(self, optimizer: torch.optim.Optimizer, training: Any) -> None:
        training.execution.gather()
        training.execution.gather_optimizer(optimizer)
        training.execution.abandon()
        training.iteration.abandon()
        deepen(training.stages, optimizer, training.optimizer.moments, RULES[self.plan.rule])
        training.execution.renew()
        for stage in training.stages:
            for p in () if stage.likeness is None else stage.likeness.parameters():
                optimizer.state.pop(p, None)
        self.scores.append(self.checkpoints.record)
        self.checkpoints.forget()
        self.level += 1

    def _count(self) -> None:
        now = time.perf_counter()
        self.seconds[self.level] += now - self.since
        self.since = now


def deepen(stages: Iterable[Stage], optimizer: torch.optim.Optimizer, moments: dict[str, int], rule: Rule) -> None:
    """Doubles the layers of all stages, and the optimizer's moments along with them: of degree d in g, P m / 2^d."""
    blocks = [stage.block for stage in stages]
    for stacks in zip(*(block.stacks() for block in blocks), strict=True):
        states: list[dict[str, Any]] = [optimizer.state.get(stack, {}) for stack in stacks]
        for name, degree in moments.items():
            known = [state.get(name) for state in states]
            if all(m is None for m in known):
                continue
            # A stage that has made no step yet has none, which is a momentum of zero.
            coarse = [torch.zeros_like(stack) if m is None else m for stack, m in zip(stacks, known, strict=True)]
            for state, m, fine in zip(states, known, together(rule, coarse), strict=True):
                if m is not None:
                    state[name] = fine / 2**degree
    prolong(rule, blocks)
