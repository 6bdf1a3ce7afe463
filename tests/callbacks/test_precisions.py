"""Every callback of conf/callbacks in every precision that a trainer takes."""

from typing import get_args

import pytest

from composing import options
from costate.config.settings import signature
from running import fit

PRECISIONS = get_args(signature("costate.training.trainer.build").settings["precision"].kind)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", [word for word in PRECISIONS if not word.startswith("16")])
def test_all_of_them_measure_in_every_precision(tmp_path, precision):
    """On a surface, which one of them draws; float16 is refused by the trainer."""
    words = ("data=surface", "data.train=64", "data.validation=32", "data.test=8", "data.batch_size=16", "epochs=1")
    names = ",".join(name for name in options("callbacks") if name != "none")
    often = ("callbacks.stability_probe.every=1", "callbacks.gradient_cosine.every=1", "log_every=1")
    small = ("arch.depth=4", "arch.width=8", "trainer.progress=none")
    folder = fit(tmp_path, *words, *small, *often, f"callbacks=[{names}]", f"trainer.precision={precision}")
    results = folder.results()
    wanted = {"stage/1/probe_mse", "stage/0/amplification", "stage/0/gradient_cosine", "peak_bytes", "fit_seconds"}
    assert wanted <= results.keys()
    assert (tmp_path / "surface" / "epoch-0001.npy").exists()
