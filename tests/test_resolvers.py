"""Functions that conf/ calls."""

import pytest

from composing import config


def test_the_rate_grows_with_the_root_of_the_batch():
    rates = {batch: config(f"data.batch_size={batch}").optimizer.lr for batch in (32, 128, 512)}
    assert rates == pytest.approx({32: 0.001, 128: 0.002, 512: 0.004})
    assert config("data.batch_size=512", "optimizer.lr=0.1").optimizer.lr == 0.1


def test_a_pipeline_has_a_process_for_each_stage_of_each_replica():
    assert config("execution=pipeline", "stages=3", "execution.replicas=2").trainer.devices == 6
