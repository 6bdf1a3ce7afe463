"""Stable networks: opening, head, penalty, start, and refusals."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from composing import network, refusal
from costate.architectures.integrators import Verlet
from small import FORMED, INTEGRATORS, block, conv, dense

DIGITS, POINTS = (1, 8, 8), (2,)


@pytest.mark.parametrize("field", [dense(4, 3), conv(4, 3)], ids=["dense", "conv"])
@pytest.mark.parametrize("layers", [slice(0, 4), slice(1, 3)])
def test_penalty(field, layers):
    """α/(2h) Σ ‖θ_{j+1} − θ_j‖² over neighbouring layers of the stage."""
    whole = block(field, Verlet(half_start=False), T=2.0, smoothness=0.3)
    stage = whole.slice(layers.start, layers.stop)
    steps = [(θ[j + 1] - θ[j]).square().sum() for θ in (field.K, field.b) for j in range(layers.start, layers.stop - 1)]
    assert torch.allclose(stage.penalty(), 0.3 / (2 * 0.5) * sum(steps), rtol=1e-12)


def test_penalty_is_none_where_there_is_nothing_to_smooth():
    assert block(dense(4, 3), Verlet(half_start=False)).penalty() is None
    assert block(dense(1, 3), Verlet(half_start=False), smoothness=1.0).penalty() is None


@pytest.mark.parametrize(("arch", "form"), FORMED)
def test_field_is_constant_in_time_at_first(arch, form):
    """Then doubling the depth of a fresh network moves its output by O(h), and no penalty is due."""
    outputs = []
    for depth in (32, 64, 128):
        torch.manual_seed(0)
        whole = network(DIGITS, 3, f"arch={arch}", f"arch/form={form}", f"arch.depth={depth}", "arch.smoothness=1")
        assert whole.block.penalty() == 0
        outputs.append(whole.double()(torch.linspace(-1, 1, 128, dtype=torch.float64).view(2, *DIGITS)))
    change = [(a - b).norm() for a, b in pairwise(outputs)]
    assert change[1] < 0.6 * change[0]


@pytest.mark.parametrize(("arch", "form"), [pair for pair in FORMED if INTEGRATORS[pair[0]].fields == 2])
def test_head_reads_the_first_field_alone(arch, form):
    """And the second one starts at 0."""
    whole = network(DIGITS, 3, f"arch={arch}", f"arch/form={form}").block
    Y, second = whole.enter(torch.randn(4, *DIGITS))
    assert torch.equal(second, torch.zeros_like(Y))
    assert torch.equal(whole.leave((Y, second)), whole.leave((Y, torch.randn_like(Y))))
    assert not torch.equal(whole.leave((Y, second)), whole.leave((torch.randn_like(Y), second)))


@pytest.mark.parametrize("name", INTEGRATORS)
def test_boundary_is_one_tensor(name):
    """The fields are stacked on axis 1, whatever the form."""
    for field, shape in ((dense(4, 3), (3,)), (conv(4, 3), (3, 5, 6))):
        stage = block(field, INTEGRATORS[name]).slice(1, 3)
        fields = INTEGRATORS[name].fields
        h = torch.randn(2, fields * shape[0], *shape[1:], dtype=torch.float64)
        assert stage(h).shape == h.shape
        state = stage.enter(h)
        assert torch.equal(torch.cat(state, 1), h)
        assert torch.equal(stage.leave(state), h)


def test_half_start_is_the_network_s_first_step():
    """Not that of later stages."""
    whole = block(dense(4, 3), Verlet(half_start=True), T=2.0)
    assert [layer.kick for layer in whole.steps()] == [0.25, 0.5, 0.5, 0.5]
    assert [layer.kick for layer in whole.slice(2, 4).steps()] == [0.5, 0.5]
    assert {layer.h for layer in whole.steps()} == {0.5}


def test_padding():
    """A sample, and zeros."""
    whole = network(DIGITS, 3, "arch=verlet", "arch.width=70", "arch.form.opening=pad").block
    x = torch.randn(4, *DIGITS)
    Y, _ = whole.enter(x)
    assert torch.equal(Y[:, :64], x.flatten(1))
    assert torch.equal(Y[:, 64:], torch.zeros(4, 6))


def test_linear_opening_and_head_are_affine():
    whole = network(DIGITS, 3, "arch=resnet").block
    assert [type(part) for part in whole.opening] == [nn.Flatten, nn.Linear]
    assert isinstance(whole.head, nn.Linear)


@pytest.mark.parametrize(("stride", "side"), [(1, 8), (2, 4), (4, 2)])
def test_convolutional_states_shrink_by_the_stride(stride, side):
    whole = network(DIGITS, 3, "arch=resnet", "arch/form=conv", f"arch.form.stride={stride}", "arch.width=5").block
    (Y,) = whole.enter(torch.randn(4, *DIGITS))
    assert Y.shape == (4, 5, side, side)


def test_steps_do_not_vanish_under_autocast():
    """States keep the weights' precision, for in bfloat16 Y + h σ(…) is Y when h is small."""
    whole = network(POINTS, 3, "arch=verlet", "arch.depth=1000", "arch.T=1").block
    with torch.autocast("cpu", torch.bfloat16):
        state = whole.enter(torch.randn(4, *POINTS))
        assert state[0].dtype == torch.float32
        after = whole.integrator.step(whole.integrator.step(state, whole.steps()[0]), whole.steps()[1])
    assert after[0].dtype == torch.float32
    assert not torch.equal(after[0], state[0])


@pytest.mark.parametrize(
    ("shape", "overrides", "message"),
    [
        (
            DIGITS,
            ["arch=verlet", "arch.width=63", "arch.form.opening=pad"],
            "arch.width=63 is below the 64 features of the data, which arch.form.opening=pad cannot pad: "
            "raise arch.width to 64 or use arch.form.opening=linear",
        ),
        (
            POINTS,
            ["arch=resnet", "arch/form=conv"],
            "arch/form=conv needs images (channels, height, width); data gives 2 features: use arch/form=dense",
        ),
        (
            DIGITS,
            ["arch=resnet", "arch/form=conv", "arch.form.kernel=4"],
            "arch.form.kernel=4 is even: only odd filters keep an image's size",
        ),
    ],
)
def test_impossible_networks_are_refused(shape, overrides, message):
    assert refusal(lambda: network(shape, 3, *overrides)) == message
