"""What a run leaves behind: files, numbers, a table."""

import csv
import json

import pytest

from costate.training import loggers
from running import QUIET, SMALL, fit


def test_the_run_folder(tmp_path, capfd):
    folder = fit(tmp_path, *SMALL, "stages=3", "trainer.progress=lines", "log_every=2")
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    kept = {"config.yaml", "origin.json", "metrics.csv", "summary.json", "network.safetensors", "samples.json"}
    assert files == kept | {"checkpoints/last.ckpt", "checkpoints/best.ckpt"}

    results = json.loads(folder.summary.read_text())
    wanted = {
        "test/accuracy",
        "test/loss",
        "val/accuracy",
        "val/loss",
        "fit_seconds",
        "samples_per_second",
        "parameters",
    }
    wanted |= {f"boundary/{k}/{name}" for k in (0, 1) for name in ("cosine", "relative_error", "explained_variance")}
    wanted |= {f"stage/{k}/gradient_norm" for k in range(3)}
    assert wanted <= results.keys()

    with folder.metrics.open() as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows if row["train/loss"]]
    assert steps == [n for n in range(18) if (n + 1) % 2 == 0], (
        "a row every log_every batches, with that batch's numbers"
    )
    validated = {int(row["step"]): float(row["val/accuracy"]) for row in rows if row["val/accuracy"]}
    assert list(validated) == [5, 11, 17]
    assert results["val/accuracy"] == max(validated.values()), "of the epoch whose checkpoint is tested"

    told, noise = capfd.readouterr()
    assert noise == ""
    lines = [line for line in told.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3
    (header,) = [line for line in told.splitlines() if line.split()[:1] == ["val/loss"]]
    assert header.split() == [f"{part}/{name}" for part in ("val", "train") for name in ("loss", "accuracy")]
    assert f"{results['test/accuracy']:.4g}" in told


def test_a_regression_is_best_where_its_error_is_smallest(tmp_path):
    folder = fit(tmp_path, *SMALL, *QUIET, "data=surface", "data.train=96", "data.batch_size=16", "epochs=3")
    with folder.metrics.open() as file:
        validated = [float(row["val/mse"]) for row in csv.DictReader(file) if row["val/mse"]]
    assert folder.results()["val/mse"] == min(validated)
    assert "test/mse" in folder.results()


def test_overfitting_one_batch_comes_near_zero(tmp_path):
    words = ["debug=overfit", "arch=mlp", "epochs=60", "optimizer.lr=0.01", "trainer.progress=none"]
    assert fit(tmp_path, *words).results()["train/loss"] < 0.01


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "entry"), [("simple", "optimizer_step"), ("pytorch", "aten::")])
def test_profiles_lie_in_the_run_folder(tmp_path, kind, entry):
    fit(tmp_path, "debug=profile", f"trainer.profiler={kind}", *SMALL, "epochs=1", "trainer.progress=none")
    assert entry in (tmp_path / "fit-profile.txt").read_text()


def test_seed_0_is_a_seed_and_others_are_others(tmp_path):
    losses = []
    for i, seed in enumerate((0, 0, 1)):
        losses.append(fit(tmp_path / str(i), *SMALL, *QUIET, f"seed={seed}", "epochs=1").results()["val/loss"])
    assert losses[0] == losses[1] != losses[2]


def test_earlier_rows_stay_and_later_ones_give_way_to_new_ones(tmp_path):
    (tmp_path / "metrics.csv").write_text("loss,step\n0.3,4\n,9\n0.1,14\n")
    logger = loggers.csv(tmp_path, 10, {})
    logger.log_metrics({"loss": 0.2}, step=10)
    logger.save()
    assert (tmp_path / "metrics.csv").read_text().split() == ["loss,step", "0.3,4", ",9", "0.2,10"]
