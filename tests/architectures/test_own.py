"""A user's own modules become stages as they are; what cannot be is said in one sentence."""

from functools import reduce
from pathlib import Path

import pytest
import torch
from torch import nn

from composing import method, network, options, refusal
from costate.core.tasks import Classification
from costate.execution.serial import Serial
from costate.training.module import stages as make_stages
from own_network import layers

SHAPE, CLASSES = (2, 3), 4
WRONG = {"no_syntax": "\nprint(", "imports": "import no_such_package", "no_name": "nothing"}
OWN = ("arch=sequential", "arch.module=own_network:layers")


def trained(rule: str) -> list[torch.Tensor]:
    """The gradients of a batch where every module is a stage of its own."""
    each = method("arch=mlp", f"method={rule}", *(["method.delay=0"] if rule in {"delayed", "replay"} else []))
    torch.manual_seed(0)
    parts = make_stages(network(SHAPE, CLASSES, *OWN).cut(7), SHAPE, Classification(CLASSES), each)
    Serial(parts, each, lag=0).step(0, torch.ones(8, *SHAPE).tril(), torch.arange(8) % CLASSES)
    return [p.grad for part in parts for p in part.block.parameters()]


@pytest.mark.parametrize("rule", ["backprop", "delayed", "replay"])
def test_with_true_gradients_and_a_stage_for_every_module_they_are_plain_pytorchs(rule):
    torch.manual_seed(0)
    plain = layers(SHAPE, CLASSES)
    nn.functional.cross_entropy(plain(torch.ones(8, *SHAPE).tril()), torch.arange(8) % CLASSES).backward()
    for found, p in zip(trained(rule), plain.parameters(), strict=True):
        assert torch.equal(found, p.grad)


@pytest.mark.parametrize("rule", sorted(set(options("method")) - {"petra", "pvd"}))
def test_every_method_without_time_steps_goes_backwards_through_all_of_its_stages(rule):
    """The first stage has nothing to learn, and neither have two others."""
    found = trained(rule)
    assert all(torch.isfinite(g).all() for g in found)
    assert any(g.abs().max() > 0 for g in found[:2]) == (rule not in {"none", "sg"}), "an untrained synthesizer says 0"


def test_settings_and_names_are_the_functions_own():
    torch.manual_seed(0)
    own = network(SHAPE, CLASSES, *OWN, "arch.settings={width: 9}")
    torch.manual_seed(0)
    plain = layers(SHAPE, CLASSES, width=9)
    assert own.block.chain.state_dict().keys() == plain.state_dict().keys()
    stages = own.cut(3)
    names = [name for stage in stages for name in stage.chain.state_dict()]
    assert names == list(plain.state_dict())
    x = torch.randn(5, *SHAPE)
    assert torch.equal(reduce(lambda h, stage: stage(h), stages, x), plain(x))
    assert own.training
    assert all(module.training for module in own.modules())


def test_modules_may_be_listed_named_and_of_sizes_that_the_data_decides():
    own = network(SHAPE, CLASSES, "arch=sequential", "arch.module=own_network:named")
    assert list(own.block.chain._modules) == ["flat", "lazy"]
    assert own.block.chain.lazy.weight.shape == (CLASSES, 6)
    assert network(SHAPE, CLASSES, "arch=sequential", "arch.module=own_network:listed").layers == 2


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("null", "=None has to be package.module:function, where the function is found."),
        ("own_network.one", "=own_network.one has to be package.module:function, where the function is found."),
        ("no_such:thing", "=no_such:thing: there is no module no_such, neither in "),
        ("torch.no_such:thing", "=torch.no_such:thing: there is no module torch.no_such, neither in "),
        ("own_network:onee", "=own_network:onee: own_network ({here}own_network.py) has no onee (did you mean one?)."),
        ("own_network:MADE", "=own_network:MADE is a Sequential: name a function that returns what is wanted."),
        ("own_network:one", "=own_network:one returns a Linear, and not an nn.Sequential or a list of modules."),
        ("own_network:nothing", "=own_network:nothing returns None, and not an nn.Sequential or a list of modules."),
        ("no/such.py:thing", "=no/such.py:thing: a module is named with dots and without .py, no.such:thing."),
        ("a_folder:thing", "=a_folder:thing: a_folder (a folder) has no thing."),
        ("no_syntax:thing", "=no_syntax:thing: SyntaxError in {tmp}no_syntax.py, line 2: '(' was never closed."),
        ("imports:thing", "=imports:thing: there is no module no_such_package, neither in "),
        ("no_name:thing", "=no_name:thing: NameError in {tmp}no_name.py, line 1: name 'nothing' is not defined."),
        ("own_network:faulty", "=own_network:faulty: RuntimeError in {here}own_network.py, line "),
        ("own_network:none", "=own_network:none returns no modules"),
        ("own_network:text", "=own_network:text returns a list whose item 1 is a str"),
        ("own_network:skip", "=own_network:skip returns a Skip, whose forward is its own"),
        (
            "own_network:pair",
            "=own_network:pair: module 1 (Pair) gives a tuple, and what goes down a boundary is one tensor",
        ),
        ("own_network:writes", "=own_network:writes: module 2 (Writes) writes on what it is given"),
        ("own_network:rows", "=own_network:rows: module 1 (Rows) gives torch.int64 (2,) for two samples"),
        ("own_network:misfit", "=own_network:misfit: module 1 (Linear) does not take a batch (2, 6): mat1 and mat2"),
        (
            "own_network:astray",
            "=own_network:astray: module 1 (Doubled): its inverse misses what the module was given by 100",
        ),
        ("own_network:many", "=own_network:many gives 5 numbers a sample, as (2, 5), and the data asks for 4"),
        ("own_network:asks", "=own_network:asks: missing a required argument: 'width', give it in arch.settings."),
    ],
)
def test_what_is_not_there_or_something_else_is_said_in_one_sentence(tmp_path, monkeypatch, module, sentence):
    (tmp_path / "a_folder").mkdir()
    for name, text in WRONG.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    told = refusal(lambda: network(SHAPE, CLASSES, "arch=sequential", f"arch.module={module}"))
    sentence = sentence.replace("{here}", f"{Path(__file__).parents[1]}/").replace("{tmp}", f"{tmp_path}/")
    assert told.startswith("arch.module" + sentence)
    assert "\n" not in told


def test_a_setting_that_the_function_has_not_is_said():
    told = refusal(
        lambda: network(SHAPE, CLASSES, "arch=sequential", "arch.module=own_network:asks", "arch.settings={dept: 1}")
    )
    assert (
        told == "arch.settings.dept: own_network:asks has no such parameter (did you mean depth?); it has width, depth."
    )


def test_modules_that_would_write_on_a_boundary_do_not():
    own = network(SHAPE, CLASSES, "arch=sequential", "arch.module=own_network:inplace")
    x = torch.randn(5, *SHAPE)
    output = own(x)
    h = x
    for stage in own.cut(4):
        h = stage(h.detach().requires_grad_())
    assert torch.equal(h, output)


def test_layers_that_share_parameters_stay_together():
    own = network(SHAPE, CLASSES, "arch=sequential", "arch.module=own_network:twice")
    front, _ = own.cut(2, [4, 1])
    assert front.chain[1].weight is front.chain[3].weight
    assert refusal(lambda: own.cut(2)).startswith("stages=2 parts layers that share parameters")


def test_a_module_that_draws_while_it_is_imported_changes_no_weight_of_a_later_job(tmp_path, monkeypatch):
    """Jobs of a sweep share a process, and the first one alone imports it."""
    (tmp_path / "draws_first.py").write_text("import torch\nfrom own_network import listed\n\ntorch.randn(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        found.append(network(SHAPE, CLASSES, "arch=sequential", "arch.module=draws_first:listed").state_dict())
    assert all(map(torch.equal, *(each.values() for each in found)))
