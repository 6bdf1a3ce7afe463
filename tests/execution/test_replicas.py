"""R ranks with the rows r::R of a batch compute what one process computes on the whole of it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from composing import refusal
from costate.architectures.norm import Norm
from costate.execution.replicas import average_gradients, join_batch_norms, joint_rows, own_rows, share_module
from ranks import on_ranks

CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5}


def unbiased(norm: nn.Module) -> nn.Module:
    """As torch makes it of bias=False, where it knows that."""
    norm.register_parameter("bias", None)
    return norm


NORMS: dict[str, Callable[[], nn.Module]] = {
    "1d": lambda: nn.BatchNorm1d(6),
    "1d, batch statistics only": lambda: nn.BatchNorm1d(6, track_running_stats=False),
    "1d, no parameters": lambda: nn.BatchNorm1d(6, affine=False, momentum=None),
    "1d, no bias": lambda: unbiased(nn.BatchNorm1d(6)),
    "2d": lambda: nn.Sequential(nn.Unflatten(1, (2, 3, 1)), nn.BatchNorm2d(2), nn.Flatten()),
    "ours": lambda: Norm(1, 6),
}


def network(norm: str, dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    parts = [nn.Linear(4, 6), NORMS[norm](), nn.Tanh(), nn.Linear(6, 6), NORMS[norm](), nn.Tanh(), nn.Linear(6, 3)]
    return nn.Sequential(*parts).to(dtype)


def batch(n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    # Far from zero, where a difference of squares would lose digits.
    return torch.randn(n, 4, dtype=dtype) + 30, torch.randn(n, 3, dtype=dtype)


def losses(net: nn.Sequential, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Two backward passes, as of two stages, over two batches; everything that a step could depend on."""
    for scale in (1, 2):
        h = net[:4](scale * x)
        inner = h.detach().requires_grad_()
        output = net[4:](inner)
        (output - y).square().mean().backward()
        h.backward(inner.grad)
    average_gradients(net.parameters())
    gradients = {f"∂{name}": p.grad for name, p in net.named_parameters()}
    return {**gradients, **dict(net.named_buffers()), "output": joint_rows(output.detach())}


Case = tuple[str, torch.dtype]
BATCHES = torch.arange(36.0).view(6, 2, 3), torch.arange(6)
CASES: list[Case] = [(norm, dtype) for norm in NORMS for dtype in CLOSE]


def on_shares() -> dict[Any, Any]:
    """All that two ranks are asked for here: to start them takes longer."""
    results: dict[Any, Any] = {
        "gradients": {dtype: gradients_of_a_rank(dtype) for dtype in (torch.float32, torch.bfloat16)},
        "rows": [joint_rows(own_rows(Y)) for Y in BATCHES],
        "start": from_its_own_start(),
    }
    for norm, dtype in CASES:
        net = network(norm, dtype)
        join_batch_norms(net)
        x, y = batch(12, dtype)
        results[norm, dtype] = losses(net, own_rows(x), own_rows(y))
    return results


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return on_ranks(2, tmp_path_factory.mktemp("shares"), on_shares)


@pytest.mark.parametrize(("norm", "dtype"), CASES)
def test_ranks_equal_one_process_with_the_joint_batch(shared: list[dict], norm: str, dtype: torch.dtype) -> None:
    expected = losses(network(norm, dtype), *batch(12, dtype))
    for found in (results[norm, dtype] for results in shared):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            size = value.abs().max().clamp_min(1).item() if value.numel() else 1
            torch.testing.assert_close(found[name], value, rtol=0, atol=CLOSE[dtype] * size)


def gradients_of_a_rank(dtype: torch.dtype) -> list[Tensor | None]:
    """Parameters whose gradient is there on both ranks, on one, and on none."""
    rank = dist.get_rank()
    both, one, none = (nn.Parameter(torch.zeros(2, dtype=dtype)) for _ in range(3))
    double = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    both.grad = torch.tensor([1.0, 2.0], dtype=dtype) * (1 + 2 * rank)
    one.grad = torch.tensor([4.0, 8.0], dtype=dtype) if rank == 1 else None
    double.grad = torch.tensor([1 + 2e-12 * rank], dtype=torch.float64)
    average_gradients([both, one, none, double])
    return [p.grad for p in (both, one, none, double)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_missing_gradient_is_zero_unless_it_is_missing_on_all_ranks(shared: list[dict], dtype: torch.dtype) -> None:
    for both, one, none, double in (results["gradients"][dtype] for results in shared):
        assert torch.equal(both, torch.tensor([2.0, 4.0], dtype=dtype))
        assert torch.equal(one, torch.tensor([2.0, 4.0], dtype=dtype))
        assert none is None
        assert double.item() == 1 + 1e-12


def test_rows_of_the_ranks_are_the_joint_batch(shared: list[dict]) -> None:
    for results in shared:
        assert all(map(torch.equal, results["rows"], BATCHES))


def from_its_own_start() -> dict[str, Tensor]:
    torch.manual_seed(dist.get_rank())
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    net[1].running_mean.normal_()
    share_module(net, 0)
    return net.state_dict()


def test_ranks_start_from_the_tensors_of_rank_0(shared: list[dict]) -> None:
    torch.manual_seed(0)
    weight = nn.Linear(3, 2).weight
    first, second = (results["start"] for results in shared)
    assert torch.equal(first["0.weight"], weight)
    for name, tensor in first.items():
        assert torch.equal(second[name], tensor)


@pytest.mark.parametrize("norm", NORMS)
def test_without_other_ranks_nothing_changes(norm: str) -> None:
    plain = network(norm, torch.float64)
    joint = join_batch_norms(deepcopy(plain))
    x, y = batch(8, torch.float64)
    expected, found = losses(plain, x, y), losses(joint, x, y)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(joint.eval()(x), plain.eval()(x), rtol=1e-12, atol=1e-12)
    plain.load_state_dict(joint.state_dict())


def test_without_other_ranks_gradients_are_left_alone() -> None:
    p = nn.Parameter(torch.zeros(2))
    p.grad = g = torch.ones(2)
    average_gradients([p])
    assert p.grad is g


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=["mixed", "true"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_batch_in_bfloat16_has_its_moments_in_float32(norm: str, weights: torch.dtype) -> None:
    """257 rows are 256 in bfloat16; statistics of another precision than the batch ended a run of several ranks, in
    bf16-mixed those of a stable network, in bf16-true those of batch norms of one's own.
    """
    plain = NORMS[norm]().to(weights)
    joint = join_batch_norms(deepcopy(plain))
    x = (torch.randn(257, 6) + 3).bfloat16()
    expected, found = plain(x), joint(x)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0.04)
    close = 1e-5 if weights is torch.float32 else 4e-3
    for name, value in plain.named_buffers():
        torch.testing.assert_close(dict(joint.named_buffers())[name], value, rtol=close, atol=close)


class Ghosts(nn.BatchNorm1d):
    """Each half of the rows by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super(Ghosts, self).forward(half) for half in x.chunk(2)])


def test_a_batch_norm_with_a_forward_of_its_own_is_refused() -> None:
    """It had become a plain one, without a word."""
    told = refusal(lambda: join_batch_norms(nn.Sequential(Ghosts(3))))
    assert told.startswith("Ghosts is a batch norm with a forward of its own, and replicas share the statistics of")
    assert "\n" not in told
