"""Multilevel runs: one folder, one axis; resumed = uninterrupted, many processes = one."""

import csv
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate

import costate
from composing import config, network
from costate.core.block import RULES, prolong
from costate.runs import RunFolder
from running import QUIET, command, differences, fit, last, refusal
from small import ARCHS, STABLE, TIMED

BATCHES = 6  # an epoch of 96 rows
DATA = ("data=ellipse", "data.train=96", "data.batch_size=16", "arch.width=8", "stages=2", "seed=0")
LEVELS = ("levels=double", "levels.depths=[2,4,8]", "levels.epochs=[3,2,1]", "levels.lr=[0.004,0.002,0.001]")
RUN = (*DATA, *QUIET, *LEVELS)
LAG = "execution.lag=1"
TIMES = (".callbacks.Throughput", ".callbacks.ParallelTime", ".callbacks.Refinement.seconds")


def alarm(batch: int, signum: int) -> tuple[str, ...]:
    words = {"_target_": "alarm.Alarm", "batch": batch, "signum": signum}
    return tuple(f"+callbacks.alarm.{key}={value}" for key, value in words.items())


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with folder.metrics.open() as file:
        return list(csv.DictReader(file))


def layers(checkpoint: Path) -> int:
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    return sum(len(tensor) for name, tensor in state.items() if name.endswith("field.K"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunFolder:
    return fit(tmp_path_factory.mktemp("whole"), *RUN, LAG, "arch.norm=true", *alarm(-1, 0))


def test_one_folder_and_one_axis_with_the_level_in_it(whole):
    steps = [int(row["step"]) for row in rows(whole)]
    assert steps == sorted(steps)
    assert steps[-1] >= 6 * BATCHES - 1
    told = [(float(row["level"]), float(row["depth"])) for row in rows(whole) if row["level"]]
    assert told == [(0, 2)] * 3 + [(1, 4)] * 2 + [(2, 8)]


def test_the_summary_has_accuracy_and_seconds_of_each_level(whole):
    results = whole.results()
    validated = [float(row["val/accuracy"]) for row in rows(whole) if row["val/accuracy"]]
    for i, (depth, epochs, own) in enumerate([(2, 3, validated[:3]), (4, 2, validated[3:5]), (8, 1, validated[5:])]):
        assert (results[f"level/{i}/depth"], results[f"level/{i}/epochs"]) == (depth, epochs)
        assert results[f"level/{i}/val/accuracy"] == pytest.approx(max(own))
    assert sum(results[f"level/{i}/seconds"] for i in range(3)) == pytest.approx(results["fit_seconds"], rel=0.3)
    assert results["epochs"] == 6
    assert results["val/accuracy"] == results["level/2/val/accuracy"], "the best of the final level"


def test_the_checkpoints_are_of_the_final_depth_and_the_settings_say_it(whole):
    assert layers(whole.path / "checkpoints" / "best.ckpt") == layers(whole.path / "checkpoints" / "last.ckpt") == 8
    assert last(whole)["hyper_parameters"]["arch"]["depth"] == 8


@pytest.mark.parametrize(
    "batch",
    [
        8,  # in the middle of the first level
        3 * BATCHES - 1,  # its last batch
        3 * BATCHES,  # the first of the second level
        4 * BATCHES - 1,  # the last of an epoch, in the middle of the second level
        5 * BATCHES + 2,  # in the third level
        6 * BATCHES - 1,  # the last of all
    ],
)
def test_a_run_that_is_stopped_in_any_level_resumes_to_the_same_numbers(tmp_path, whole, batch):
    with pytest.raises(SystemExit):
        fit(tmp_path, *RUN, LAG, "arch.norm=true", *alarm(batch, signal.SIGTERM))
    folder = RunFolder(tmp_path)
    assert last(folder)["global_step"] == batch + 1
    fit(tmp_path, f"resume={tmp_path}")
    skip = (*TIMES, ".hyper_parameters.callbacks.alarm", ".callbacks.Checkpoints.latest")
    assert [key for key in differences(last(folder), last(whole)) if not key.startswith(skip)] == []
    same = [name for name in whole.results() if "second" not in name and name != "overrides"]
    assert {name: folder.results()[name] for name in same} == {name: whole.results()[name] for name in same}


def test_late_gradients_on_a_coarse_level_go_through_a_checkpoint(tmp_path):
    """With batch norm, whose running statistics pending graphs refer to."""
    run = (*DATA, *QUIET, "levels=double", "levels.depths=[2,4]", "levels.epochs=[2,1]", "arch.norm=true")
    run = (*run, "levels.coarse_method=delayed")
    straight = fit(tmp_path / "straight", *run)
    stopped = RunFolder(tmp_path / "stopped")
    with pytest.raises(SystemExit):
        fit(stopped.path, *run, *alarm(8, signal.SIGTERM))
    assert [sorted(kept) for kept in last(stopped)["execution"]["flights"]] == [[8], []]
    fit(stopped.path, f"resume={stopped.path}")
    skip = (*TIMES, ".hyper_parameters.callbacks", ".callbacks.Checkpoints.latest", ".callbacks.Alarm")
    assert [key for key in differences(last(stopped), last(straight)) if not key.startswith(skip)] == []


def test_early_stopping_watches_the_last_level_alone(tmp_path):
    """Stopped on a coarse level, a run ended in an error of zip(), without a network; and where it was not, the fine
    level was measured by the best of the coarse one.
    """
    stopping = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1")
    words = (*DATA, *QUIET, *stopping, "callbacks.early_stopping.min_delta=100")
    folder = fit(tmp_path, *words, "levels=double", "levels.depths=[2,4]", "levels.epochs=[3,4]")
    assert folder.results()["epochs"] == 3 + 2, "of the last one to compare with, and one that was no better by 100"
    assert layers(tmp_path / "checkpoints" / "best.ckpt") == 4


def test_a_user_s_callback_may_end_a_run_on_a_coarse_level(tmp_path):
    """It has its results and its network, which is as deep as it had become."""
    words = (*DATA, *QUIET, "levels=double", "levels.depths=[2,4]", "levels.epochs=[3,4]")
    folder = fit(tmp_path, *words, "+callbacks.enough._target_=alarm.Enough", "+callbacks.enough.epochs=2")
    assert folder.results()["epochs"] == 2
    assert [name for name in folder.results() if name.startswith("level/1")] == []
    assert layers(tmp_path / "checkpoints" / "best.ckpt") == 2
    assert costate.load(tmp_path)[0].layers == 2


def test_more_epochs_are_more_of_the_last_level(tmp_path):
    run = (*DATA, *QUIET, "levels=double", "levels.depths=[2,4]", "annealing=constant")
    straight = fit(tmp_path / "straight", *run, "levels.epochs=[1,3]")
    twice = fit(tmp_path / "twice", *run, "levels.epochs=[1,1]")
    fit(twice.path, f"resume={twice.path}", "epochs=4")
    skip = (*TIMES, ".callbacks.Checkpoints.latest")
    assert [key for key in differences(last(twice), last(straight)) if not key.startswith(skip)] == []
    assert twice.results()["level/1/epochs"] == 3


@pytest.mark.parametrize(("method", "coarse_method"), [("sg", "backprop"), ("none", "backprop"), ("sg", "delayed")])
def test_coarse_levels_are_those_of_a_method_with_true_gradients(tmp_path, method, coarse_method):
    """Bit for bit, while synthesizers learn; on the finest level the method's own gradients take over."""
    small = ("levels.depths=[4,8]", "levels.epochs=[2,1]", "trainer.train_batches=3", "annealing=constant")
    run = (*DATA, *QUIET, "levels=double", *small)
    coarse, fine = [], []
    for name, own in ((coarse_method, "sg"), (method, coarse_method)):
        path, words = tmp_path / name, (f"method={name}", f"levels.coarse_method={own}")
        with pytest.raises(SystemExit):
            fit(path, *run, *words, *alarm(5, signal.SIGTERM))
        coarse.append(last(RunFolder(path))["state_dict"])
        fit(path, f"resume={path}")
        fine.append(last(RunFolder(path))["state_dict"])
    blocks = [name for name in coarse[0] if ".block." in name]
    assert [name for name in blocks if not torch.equal(coarse[0][name], coarse[1][name])] == []
    # Those of the last stage are true under every method, and differ by what goes into it: in a bias it may be nothing.
    first = [name for name in blocks if name.startswith("stages.0.")]
    assert [name for name in first if torch.equal(fine[0][name], fine[1][name])] == []
    learned = [tensor for name, tensor in coarse[1].items() if "synthesizer" in name]
    assert all(tensor.any() for tensor in learned)


def test_the_method_s_own_gradients_on_all_levels_are_a_setting(tmp_path):
    run = (*DATA, *QUIET, "levels=double", "levels.depths=[4,8]", "levels.epochs=[1,1]", "levels.coarse_method=sg")
    ends = []
    for method in ("sg", "backprop"):
        with pytest.raises(SystemExit):
            fit(tmp_path / method, *run, f"method={method}", *alarm(5, signal.SIGTERM))
        ends.append(last(RunFolder(tmp_path / method))["state_dict"])
    assert not torch.equal(ends[0]["stages.0.block.field.K"], ends[1]["stages.0.block.field.K"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["execution=serial"], "backprop"),
        (["execution=pipeline"], "delayed"),
        (["execution=pipeline", "method=backprop"], "sg"),
        *((["method=" + name], "sg") for name in ("coarse", "delayed", "replay", "petra", "critic", "feedback")),
        (["execution=asynchronous"], "sg"),
    ],
)
def test_coarse_levels_keep_no_process_waiting(words, expected):
    """Under the lock a pipeline took 1.16 times as long as one process. Methods with true gradients are themselves."""
    assert config("levels=double", *words).levels.coarse_method == expected


@pytest.mark.parametrize("words", [("method=backprop", "method.compress=sign"), ("method=delayed", "method.delay=2")])
def test_coarse_levels_by_the_method_itself_have_its_settings(tmp_path, words):
    """Named as levels.coarse_method, it was another one of the same kind, with settings of its own."""
    name = words[0].partition("=")[2]
    run = (*DATA, *QUIET, "levels=double", "levels.depths=[4,8]", "levels.epochs=[2,1]", "trainer.train_batches=3")
    ends = []
    for coarse in ("sg", name):
        path = tmp_path / coarse
        with pytest.raises(SystemExit):
            fit(path, *run, *words, f"levels.coarse_method={coarse}", *alarm(5, signal.SIGTERM))
        ends.append(last(RunFolder(path))["state_dict"])
    assert differences(*ends) == []


@pytest.mark.thorough
@pytest.mark.parametrize("coarse_method", ["backprop", "delayed"])
def test_a_pipeline_is_the_serial_run_at_the_same_lag(tmp_path, coarse_method):
    """Every tensor: stages, synthesizers, moments, what is pending."""
    run = (*RUN, "arch.norm=true", f"levels.coarse_method={coarse_method}")
    serial = fit(tmp_path / "serial", *run, LAG)
    pipeline = RunFolder(tmp_path / "pipeline")
    done = command(*run, "execution=pipeline", LAG, f"hydra.run.dir={pipeline.path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for key in ("state_dict", "optimizer_states", "execution", "lr_schedulers"):
        assert differences(last(pipeline)[key], last(serial)[key]) == [], key
    assert layers(pipeline.path / "checkpoints" / "best.ckpt") == 8


@pytest.mark.thorough
def test_a_pipeline_resumes_in_the_middle_of_a_level(tmp_path):
    serial = fit(tmp_path / "serial", *RUN, LAG, "levels.coarse_method=delayed")
    pipeline = RunFolder(tmp_path / "pipeline")
    words = (*RUN, "execution=pipeline", LAG, f"hydra.run.dir={pipeline.path}")
    # Rank 1 has the first stage, which decides behind which batch all stop.
    stopped = command(*words, *alarm(4 * BATCHES - 3, signal.SIGTERM), "+callbacks.alarm.rank=1", cwd=tmp_path)
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    assert layers(pipeline.path / "checkpoints" / "last.ckpt") == 4
    done = command(f"resume={pipeline.path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for key in ("state_dict", "optimizer_states", "execution"):
        assert differences(last(pipeline)[key], last(serial)[key]) == [], key


@pytest.mark.thorough
def test_replicas_train_what_one_process_trains(tmp_path):
    # Not Adam, which divides small gradients by themselves and so makes much of their last digits.
    run = (
        *DATA,
        *QUIET,
        "levels=double",
        "levels.depths=[4,8]",
        "levels.epochs=[2,1]",
        "levels.anneal=level",
        "optimizer=sgd",
        "arch.norm=true",
    )
    alone = last(fit(tmp_path / "alone", *run))
    done = command(*run, "trainer=ddp", f"hydra.run.dir={tmp_path / 'joint'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    joint = last(RunFolder(tmp_path / "joint"))
    for name, tensor in alone["state_dict"].items():
        torch.testing.assert_close(joint["state_dict"][name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "rule"),
    [
        ("antisymmetric", "linear"),
        ("verlet", "copy"),
        *(pytest.param(arch, "linear", marks=pytest.mark.thorough) for arch in STABLE if arch != "antisymmetric"),
    ],
)
def test_the_fine_run_starts_from_the_coarse_accuracy(tmp_path, arch, rule):
    """Within 2 points on ellipse, on points that were not trained on."""
    # Euler's growth with an antisymmetric field, ω² h / 2 a unit of time, is a factor that the head has learned.
    depth = 64 if arch == "antisymmetric" else 16
    words = ("data=ellipse", f"arch={arch}", f"arch.depth={depth}", "arch.T=4", "epochs=6", *QUIET)
    folder = fit(tmp_path, *words)
    cfg = config(*words)
    data = instantiate(cfg.data, _convert_="all")
    data.prepare_data()
    blocks = network(data.shape, data.task.outputs, *words).cut(cfg.stages)
    state = last(folder)["state_dict"]
    for k, block in enumerate(blocks):
        prefix = f"stages.{k}.block."
        block.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})

    def accuracy() -> float:
        metric: Any = data.task.metric()
        for h, y in data.test_dataloader():
            for block in blocks:
                h = block(h)
            metric.update(h, y)
        return metric.compute().item()

    coarse = accuracy()
    prolong(RULES[rule], blocks)
    assert coarse > 0.9
    assert accuracy() == pytest.approx(coarse, abs=0.02)


@pytest.mark.thorough
@pytest.mark.parametrize("arch", STABLE)
@pytest.mark.parametrize("data", ["ellipse", "swiss_roll"])
def test_levels_of_themselves_reach_what_a_run_without_them_reaches(tmp_path, arch, data):
    """Within a point of the validation rows, at every default."""
    words = (f"arch={arch}", f"data={data}", "trainer.progress=none", "callbacks=none")
    plain, coarse_first = (fit(tmp_path / name, *words, f"levels={name}").results() for name in ("none", "double"))
    assert coarse_first["level/1/depth"] == 2 * coarse_first["level/0/depth"]
    assert coarse_first["val/accuracy"] >= plain["val/accuracy"] - 0.01


@pytest.mark.parametrize("arch", [arch for arch in ARCHS if arch not in TIMED])
def test_networks_without_time_are_refused_before_training(tmp_path, arch):
    sentence = refusal(tmp_path / "run", "levels=double", f"arch={arch}", "data=digits", "trainer.progress=none")
    assert sentence.startswith(
        f"levels=double needs layers that are steps in time: choose arch={' or '.join(STABLE)}, "
    )
    assert not (tmp_path / "run").exists(), "training has begun"


def test_stages_that_do_not_divide_the_coarsest_level_are_refused_in_one_sentence(tmp_path):
    sentence = refusal(tmp_path / "run", "levels=double", "stages=3", "trainer.progress=none")
    assert sentence.startswith("stages=3 does not divide the 16 layers of the coarsest level")
    assert "\n" not in sentence
    assert not (tmp_path / "run").exists()
