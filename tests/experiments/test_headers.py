"""What files of conf/experiment say of themselves."""

import pytest
from hydra import compose, initialize_config_dir

from composing import CONF, config, method, options, scheduled, words
from costate.config.schema import check
from costate.experiments.rows import Mark, expanded, read, read_all
from small import STABLE

PROGRAMS = """full_model verlet_mnist resnet_mnist leapfrog_mnist antisymmetric_mnist ellipse swiss_roll standard_sg
    multilevel_sg distributed_sg distributed_multilevel pvd_ellipse pvd_swiss_roll pvd_mnist dni_mlp dni_mlp_conditioned
    dni_cnn dni_cnn_conditioned vanilla_mlp vanilla_cnn surface_sgd surface_asynchronous dni_table_mnist"""
HEADER = """# @package _global_
# python train.py experiment=net
# python train.py -m experiment=net arch=mlp,cnn
# Answers to net.py.
# Expects test/mse <= 1.5 x other, in 1 minute.
epochs: 3
# Expects nothing: this is no header.
hydra:
  sweeper:
    params:
      arch.widths: "[8],[8,8]"
"""


@pytest.mark.parametrize("name", options("experiment"))
def test_every_file_has_its_commands_a_program_a_mark_and_a_time(name):
    experiment = read(CONF / "experiment" / f"{name}.yaml")
    assert all(0 < row.minutes <= 15 for row in experiment.rows)
    assert len({row.overrides for row in experiment.rows}) == len(experiment.rows)
    assert all(row.overrides[0] == f"experiment={name}" for row in experiment.rows)


def test_every_program_of_the_earlier_projects_has_its_experiment():
    experiments = read_all(CONF / "experiment")
    assert {each.name for each in experiments if each.program is not None} == set(PROGRAMS.split())
    names = {each.name for each in experiments}
    assert all(row.mark.other in names | {None} for each in experiments for row in each.rows if row.mark)


ROWS = [row for each in read_all(CONF / "experiment") if each.program for row in each.rows]
# cli/test_schema.py composes the files as they are; of numbers of layers, one.
VARIANTS = {tuple(word for word in row.overrides if not word.startswith("arch.widths=")): row for row in ROWS}


@pytest.mark.parametrize(
    "row", [row for row in VARIANTS.values() if row.overrides[1:]], ids=lambda row: " ".join(row.overrides)
)
def test_every_command_composes_and_checks_whatever_its_widths(row):
    check(config(*row.overrides))


def test_full_model_has_a_switch_for_the_data_of_the_original():
    assert check(config("experiment=full_model", "data=cifar10")).data["_target_"].endswith("Cifar10")


def test_a_header_is_read_with_the_sweep_of_its_file(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(HEADER)
    found = read(path)
    assert (found.name, found.program) == ("net", "net.py")
    assert [row.overrides[1:] for row in found.rows] == [
        (),
        ("arch=mlp", "arch.widths=[8]"),
        ("arch=mlp", "arch.widths=[8,8]"),
        ("arch=cnn", "arch.widths=[8]"),
        ("arch=cnn", "arch.widths=[8,8]"),
    ]
    assert {row.mark for row in found.rows} == {Mark("test/mse", "<=", 1.5, "other")}
    assert found.rows[1].command == "python train.py experiment=net arch=mlp 'arch.widths=[8]'"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("# @package _global_\n", "", "does not begin with"),
        ("# Answers to net.py.\n", "", "needs lines"),
        ("# Expects test/mse", "# expects test/mse", "needs lines"),
        ("test/mse <= 1.5", "test/mse < 1.5", "is not `# Expects METRIC"),
        ("in 1 minute", "soon", "is not `# Expects METRIC"),
        ("train.py experiment=net", "train.py experiment=other", "does not begin with `experiment=net`"),
        ("epochs: 3", "# python train.py experiment=net arch=cnn\nepochs: 3", "needs lines"),
    ],
)
def test_a_header_in_another_form_is_refused(tmp_path, before, after, told):
    path = tmp_path / "net.yaml"
    assert before in HEADER
    path.write_text(HEADER.replace(before, after, 1))
    with pytest.raises(ValueError, match=told):
        read(path)


def test_jobs_are_those_of_hydras_sweeper():
    assert expanded(["a=1", "b=[1,2],[3]", "c=x,y"]) == [
        ("a=1", "b=[1,2]", "c=x"),
        ("a=1", "b=[1,2]", "c=y"),
        ("a=1", "b=[3]", "c=x"),
        ("a=1", "b=[3]", "c=y"),
    ]


@pytest.mark.parametrize("name", ["methods_ellipse", "methods_mnist"])
def test_every_stable_network_and_method_of_stages_is_in_the_comparison(name):
    """Found from conf/, where a network's file has an integrator and a method's no blocks; Hydra's sweeper is told the
    same.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", [f"experiment={name}"], return_hydra_config=True)
    assert cfg.hydra.sweeper.params.arch == ",".join(STABLE)
    of_stages = [each for each in options("method") if scheduled(method(*words("method", each)))]
    assert cfg.hydra.sweeper.params.method == ",".join(of_stages)
    found = {word for row in read(CONF / "experiment" / f"{name}.yaml").rows for word in row.overrides}
    assert {f"arch={arch}" for arch in STABLE} | {f"method={each}" for each in of_stages} <= found
