"""Deepening in the middle of a training: what the optimizer knows of the weights is prolonged with them."""

from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from composing import config, method, network
from costate.core.block import RULES
from costate.core.stage import Stage
from costate.core.tasks import Classification
from costate.execution.serial import Serial
from costate.training.module import stages
from costate.training.refinement import deepen

SHAPE, CLASSES = (8,), 3
ADAM = {"exp_avg": 2, "exp_avg_sq": 4}
MOMENTS = {"adam": ADAM, "nadam": ADAM, "sgd": {"momentum_buffer": 2}}


class Small:
    """Three stages after some steps, when synthesizers answer something."""

    def __init__(self, name: str):
        torch.manual_seed(0)
        net = network(SHAPE, CLASSES, "arch=verlet", "arch.depth=6", "arch.width=8", "arch.norm=true")
        rule = method("method=sg")
        self.stages: list[Stage] = stages(net.cut(3), SHAPE, Classification(CLASSES), rule)
        self.serial = Serial(self.stages, rule, lag=1)
        self.rule: Any = instantiate(config(f"optimizer={name}").optimizer, _convert_="all")
        parts = [(k, part) for k, stage in enumerate(self.stages) for part in (stage.block, stage.interface)]
        groups = [{"params": list(part.parameters()), "name": f"{type(part).__name__}/{k}"} for k, part in parts]
        stacks = [stack for stage in self.stages for stack in stage.block.stacks()]
        self.optimizer = self.rule([group for group in groups if group["params"]], stacks)
        self.steps = 0
        for _ in range(10):
            self.step()

    def step(self) -> None:
        x, y = torch.randn(5, *SHAPE), torch.randint(CLASSES, (5,))
        self.optimizer.zero_grad()
        self.serial.step(self.steps, x, y)
        self.optimizer.step()
        self.steps += 1

    def stacked(self, name: str) -> list[torch.Tensor]:
        """That moment of each weight of the field, of all stages together."""
        columns = zip(*(stage.block.field.parameters() for stage in self.stages), strict=True)
        return [torch.cat([self.optimizer.state[p][name] for p in column]) for column in columns]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", MOMENTS)
def test_moments_are_prolonged_like_weights_and_scaled_like_gradients(name, rule):
    """m ← P m / 2, v ← P v / 4, one function of time over all stages; those of other parameters stay."""
    small = Small(name)
    before = {moment: small.stacked(moment) for moment in MOMENTS[name]}
    fields = {p for stage in small.stages for p in stage.block.field.parameters()}
    others = {p: {k: v.clone() for k, v in s.items()} for p, s in small.optimizer.state.items() if p not in fields}
    assert len(others) > 4
    deepen(small.stages, small.optimizer, small.rule.moments, rule)
    for moment, scale in MOMENTS[name].items():
        for coarse, fine in zip(before[moment], small.stacked(moment), strict=True):
            assert coarse.any()
            assert torch.equal(fine, rule(coarse) / scale)
    for p, state in others.items():
        assert all(torch.equal(small.optimizer.state[p][key], value) for key, value in state.items())


@pytest.mark.parametrize("name", [*MOMENTS, "muon"])
def test_a_stage_that_has_made_no_step_yet_counts_as_one_without_momentum(name):
    """A level may end before a late gradient is there: others had coarse moments, and Adam wrote past their end."""
    small = Small(name)
    moments = MOMENTS.get(name, {"exp_avg": 2})
    before = {moment: [rows.clone() for rows in small.stacked(moment)] for moment in moments}
    for p in small.stages[0].block.parameters():
        del small.optimizer.state[p]
    deepen(small.stages, small.optimizer, small.rule.moments, RULES["linear"])
    for moment, scale in moments.items():
        columns = zip(*(stage.block.field.parameters() for stage in small.stages[1:]), strict=True)
        for coarse, fine in zip(before[moment], columns, strict=True):
            coarse[:2] = 0
            own = torch.cat([small.optimizer.state[p][moment] for p in fine])
            assert torch.equal(own, RULES["linear"](coarse)[4:] / scale)
    small.step()


@pytest.mark.parametrize("name", MOMENTS)
def test_training_goes_on_and_moves_every_layer(name):
    small = Small(name)
    deepen(small.stages, small.optimizer, small.rule.moments, RULES["linear"])
    fields = [stage.block.field for stage in small.stages]
    before = [field.K.detach().clone() for field in fields]
    small.step()
    assert [field.K.shape for field in fields] == [(4, 8, 8)] * 3
    assert all((K != field.K).flatten(1).any(1).all() for K, field in zip(before, fields, strict=True))


def test_an_optimizer_without_momentum_has_nothing_to_prolong():
    small = Small("sgd")
    for state in small.optimizer.state.values():
        state["momentum_buffer"] = None
    deepen(small.stages, small.optimizer, small.rule.moments, RULES["linear"])
    assert {state["momentum_buffer"] for state in small.optimizer.state.values()} == {None}


def test_every_optimizer_says_which_of_its_state_are_moments():
    """What has the shape of a weight and is not named would keep the coarse shape."""
    for name in MOMENTS:
        small = Small(name)
        K = small.stages[0].block.field.K
        shaped = {key for key, value in small.optimizer.state[K].items() if value.shape == K.shape}
        assert shaped == small.rule.moments.keys() == MOMENTS[name].keys()


def test_muon_averages_gradients_of_stacks_and_nothing_else_of_them():
    """Its averages are prolonged as Adam's are, and a checkpoint brings them back."""
    small = Small("muon")
    K = [stage.block.field.K for stage in small.stages]
    assert set(small.optimizer.state[K[0]]) == {"step", "exp_avg"}
    coarse = torch.cat([small.optimizer.state[p]["exp_avg"] for p in K])
    deepen(small.stages, small.optimizer, small.rule.moments, RULES["linear"])
    assert torch.equal(torch.cat([small.optimizer.state[p]["exp_avg"] for p in K]), RULES["linear"](coarse) / 2)
    small.optimizer.load_state_dict(small.optimizer.state_dict())
    small.step()
    assert [int(small.optimizer.state[p]["step"]) for p in K] == [11] * 3
