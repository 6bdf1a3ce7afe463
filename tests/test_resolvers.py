"""Functions that conf/ calls."""

import pytest

from composing import config


def test_the_rate_grows_with_the_root_of_the_batch():
    rates = {batch: config(f"data.batch_size={batch}").optimizer.lr for batch in (32, 128, 512)}
    assert rates == pytest.approx({32: 0.001, 128: 0.002, 512: 0.004})
    late = config("data.batch_size=128", "method=delayed", "method.accumulate=4")
    assert late.optimizer.lr == rates[512], "of the rows that are stepped on together"
    assert config("data.batch_size=512", "optimizer.lr=0.1").optimizer.lr == 0.1


@pytest.mark.parametrize(("net", "stages"), [("mlp arch.widths=[8,8,8]", 4), ("cnn arch.filters=[4]", 2)])
def test_a_boundary_after_each_layer_whatever_the_network(net, stages):
    words = [f"arch={net.split()[0]}", net.split()[1]]
    assert config(f"experiment=dni_{words[0].partition('=')[2]}", *words).stages == stages


def test_a_pipeline_has_a_process_for_each_stage_of_each_replica():
    assert config("execution=pipeline", "stages=3", "execution.replicas=2").trainer.devices == 6
