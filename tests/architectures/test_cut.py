"""Cutting: for every architecture of conf/ and every number of stages, the stages make the network, bit for bit."""

import copy
import functools

import pytest
import torch

from composing import network, refusal
from small import PRODUCTS, STABLE, normed

SHAPE, OUTPUTS = (2, 8, 8), 3


def build(product: str, *overrides: str, seed: int = 0):
    torch.manual_seed(seed)
    arch, *rest = product.split()
    # Tests go through all numbers of stages, so that the default depth would take its square.
    depth = ["arch.depth=6"] if arch.removeprefix("arch=") in STABLE else []
    return network(SHAPE, OUTPUTS, arch, *depth, *rest, *overrides)


@pytest.mark.parametrize(
    "product",
    [
        *dict.fromkeys(" ".join([product, *normed(product, norm)]) for product in PRODUCTS for norm in (True, False)),
        *(f"arch={arch} arch.width=33" for arch in STABLE),
    ],
)
def test_stages_make_the_network(product):
    """Outputs, and the gradients that come back through all boundaries, are equal bit for bit."""
    whole = build(product)
    x = torch.randn(3, *SHAPE)
    output = whole(x)
    assert output.shape == (3, OUTPUTS)
    output.square().sum().backward()
    gradients = copy.deepcopy(whole)
    for parameter, hers in zip(gradients.parameters(), whole.parameters(), strict=True):
        parameter.data = hers.grad
    for count in range(1, whole.layers + 1):
        stages = whole.cut(count)
        again = functools.reduce(lambda h, stage: stage(h), stages, x)
        assert torch.equal(again, output)
        again.square().sum().backward()
        for stage, expected in zip(stages, gradients.cut(count), strict=True):
            for (name, parameter), gradient in zip(stage.named_parameters(), expected.parameters(), strict=True):
                assert torch.equal(parameter.grad, gradient), (count, name)


@pytest.mark.parametrize("product", PRODUCTS)
def test_cutting_draws_nothing(product):
    """The network is whole before it is cut: initial weights, and draws after them, depend on the seed alone."""
    whole = build(product)
    state = torch.get_rng_state()
    for count in range(1, whole.layers + 1):
        whole.cut(count)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), build(product).parameters(), strict=True))


@pytest.mark.parametrize("product", PRODUCTS)
def test_stages_share_nothing_with_the_network(product):
    whole = build(product)
    x = torch.randn(5, *SHAPE)
    before = whole.eval()(x)
    for stage in whole.cut(2):
        for parameter in stage.parameters():
            assert parameter.untyped_storage().nbytes() == parameter.nbytes, "a view would hold all layers' memory"
            parameter.data.zero_()
    assert torch.equal(whole(x), before)


@pytest.mark.parametrize("arch", STABLE)
@pytest.mark.parametrize(("depth", "stages", "layers"), [(16, 4, [4] * 4), (8, 3, [3, 2, 3]), (5, 5, [1] * 5)])
def test_stages_have_equal_times(arch, depth, stages, layers):
    """A boundary is at the layer next to its time k T / stages, and every stage keeps the network's time step."""
    parts = build(f"arch={arch}", f"arch.depth={depth}", "arch.T=2").cut(stages)
    assert [part.layers for part in parts] == layers
    assert {part.h for part in parts} == {2 / depth}


def test_stages_may_be_of_other_sizes():
    """The first stage of a pipeline has an opening and a synthesizer beside its layers."""
    whole = build("arch=verlet", "arch.depth=16")
    for stages, balance, layers in [(2, [7, 9], [7, 9]), (2, [1, 3], [4, 12]), (3, [1, 1, 1], [5, 6, 5])]:
        assert [part.layers for part in whole.cut(stages, balance)] == layers
    x = torch.randn(5, *SHAPE)
    front, back = (part.eval() for part in whole.eval().cut(2, [7, 9]))
    assert torch.equal(back(front(x)), whole(x))


def test_doubled_depth_doubles_every_stage():
    sizes = [[part.layers for part in build("arch=verlet", f"arch.depth={depth}").cut(4)] for depth in (8, 16)]
    assert sizes[1] == [2 * layers for layers in sizes[0]]


@pytest.mark.parametrize(
    ("product", "stages", "message"),
    [
        ("arch=verlet arch.depth=8", 9, "9 is more than the 8 layers of the network: lower stages or raise arch.depth"),
        ("arch=cnn", 4, "4 is more than the 3 layers of the network: lower stages or list more arch.filters"),
        (
            "arch=mlp arch.widths=[]",
            2,
            "2 is more than the 1 layer of the network: lower stages or list more arch.widths",
        ),
        ("arch=mlp", 0, "0 is below 1: stages=1 trains the network as a whole"),
        ("arch=resnet", -1, "-1 is below 1: stages=1 trains the network as a whole"),
    ],
)
def test_impossible_cuts_are_refused(product, stages, message):
    assert refusal(lambda: build(product).cut(stages)) == f"stages={message}"


def test_impossible_balances_are_refused():
    cut = build("arch=verlet", "arch.depth=8").cut
    assert refusal(lambda: cut(2, [3, 3, 2])) == "balance=[3, 3, 2] has 3 sizes for stages=2."
    assert refusal(lambda: cut(2, [1, 99])).startswith("balance=[1, 99] leaves a stage without any of the network's 8")
