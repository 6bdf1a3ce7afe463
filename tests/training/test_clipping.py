"""clip bounds the gradient of each stage and of each interface by itself."""

from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from composing import config, network
from costate.core.tasks import Classification
from costate.training.module import Training


def module(clip: float | None) -> Any:
    cfg = config("method=sg")
    blocks = network((4,), 3, "arch=verlet", "arch.depth=4", "arch.width=8").cut(2)
    rules = [instantiate(node, _convert_="all") for node in (cfg.method, cfg.execution, cfg.optimizer, cfg.annealing)]
    return Training(blocks, (4,), Classification(3), *rules, clip=clip, config={})


@pytest.mark.parametrize("clip", [1.0, 0.25, None])
def test_each_group_is_clipped_by_itself(clip):
    """Norms of 3 and ½ become 1 and ½: a process that holds one stage alone comes to the same."""
    groups = [[nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(7))], [nn.Parameter(torch.ones(4))]]
    for group, norm in zip(groups, (3.0, 0.5), strict=True):
        for p in group:
            p.grad = torch.ones_like(p) * norm / sum(q.numel() for q in group) ** 0.5
    optimizer = torch.optim.SGD([{"params": group} for group in groups], lr=0.1)
    module(clip).on_before_optimizer_step(optimizer)
    norms = [torch.cat([p.grad for p in group]).norm().item() for group in groups]
    assert norms == pytest.approx([min(norm, clip or norm) for norm in (3.0, 0.5)], rel=1e-4)


class Steps:
    """A trainer that knows how long it will train."""

    estimated_stepping_batches = 1


def test_a_group_is_a_stage_or_an_interface():
    training, trainer = module(1.0), Steps()
    training.trainer = trainer
    (optimizer,), _ = training.configure_optimizers()
    found = {group["name"]: {id(p) for p in group["params"]} for group in optimizer.param_groups}
    expected = {}
    for k, stage in enumerate(training.stages):
        expected |= {f"block/{k}": set(map(id, stage.block.parameters()))}
        expected |= {f"interface/{k}": set(map(id, stage.interface.parameters()))}
    assert found == {name: own for name, own in expected.items() if own}
