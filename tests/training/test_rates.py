"""The optimizer's rates for stages and for what learns between them."""

from pathlib import Path

import torch

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
