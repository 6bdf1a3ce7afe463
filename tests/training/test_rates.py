"""The optimizer's rates for stages and for what learns between them."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from composing import config
from running import QUIET, SMALL, fit, last

ONE_STEP = (*SMALL, *QUIET, "data.batch_size=96", "epochs=1", "optimizer=sgd", "optimizer.momentum=0")


def test_interfaces_have_a_rate_of_their_own(tmp_path: Path):
    """Synthesizers start at zero, so a first step of three times the rate ends three times as far; blocks do not."""
    once, thrice = (
        last(fit(tmp_path / str(factor), *ONE_STEP, f"optimizer.interfaces={factor}"))["state_dict"]
        for factor in (1, 3)
    )
    learnt = [name for name in once if ".interface." in name]
    assert learnt
    assert any(once[name].any() for name in learnt)
    for name in once:
        factor = 3 if name in learnt else 1
        assert torch.allclose(thrice[name], factor * once[name], rtol=1e-6, atol=0), name


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_early_stages_have_more_momentum_with_nadam(stages):
    """β₁ = 0.9 at the last one, whose gradients come at once; 0.99 at the first of several."""
    rule = instantiate(config("optimizer=nadam").optimizer, _convert_="all")
    groups = rule([{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(stages)]).param_groups
    expected = [0.9 + 0.09 * (stages - 1 - k) / max(stages - 1, 1) for k in range(stages)]
    assert [group["betas"] for group in groups] == [(pytest.approx(β), 0.999) for β in expected]
